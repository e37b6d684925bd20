// Keeps a page up to date: fetches it again when the gateway says that something changed, and puts
// only what differs into the page. Focus, selection, scroll position, open parts and what is being
// typed stay. Nothing that was fetched is run: the parser makes no script run, and the policy of the
// page allows none.
"use strict";

const main = document.querySelector("main[data-live]");
const sign = document.getElementById("live");
const SOON_MS = 250;
const GONE = new Set([403, 404]);

// A form's control is the user's: what was typed or chosen stays.
const CONTROLS = new Set(["INPUT", "SELECT", "TEXTAREA"]);
// What a user opened or scrolled to is no difference.
const OWN = new Set(["open"]);

// A control that stands for another thing, such as the checkbox of another batch, is another control.
const means = (node) => (CONTROLS.has(node.nodeName) ? `${node.name} ${node.type} ${node.getAttribute("value")}` : "");
const same = (one, other) =>
  one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.id || "") === (other.id || "") && means(one) === means(other);

const setAttributes = (old, fresh) => {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !OWN.has(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (!OWN.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
};

const update = (old, fresh) => {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (CONTROLS.has(old.nodeName) || old.hasAttribute("data-keep")) return;
  setAttributes(old, fresh);
  updateChildren(old, fresh);
};

const updateChildren = (old, fresh) => {
  const byId = new Map();
  for (const child of old.children) if (child.id) byId.set(child.id, child);
  let place = old.firstChild;
  const skip = () => { while (place && place.nodeType === 1 && place.hasAttribute("data-keep")) place = place.nextSibling; };
  for (const child of [...fresh.childNodes]) {
    skip();
    const found = child.id ? byId.get(child.id) : place;
    if (found && same(found, child)) {
      if (found === place) place = place.nextSibling;
      else old.insertBefore(found, place);
      update(found, child);
    } else {
      old.insertBefore(document.importNode(child, true), place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    if (!(place.nodeType === 1 && place.hasAttribute("data-keep"))) place.remove();
    place = next;
  }
};

let source = null, fetching = false, again = false, timer = 0;

const show = (text) => { if (sign && sign.textContent !== text) sign.textContent = text; };

const refresh = async () => {
  if (fetching) { again = true; return; }
  fetching = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    // The session has ended, or what the page shows is gone or not the user's any more: say so.
    if (answer.redirected || GONE.has(answer.status)) { location.reload(); return; }
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("main[data-live]");
    if (fresh) updateChildren(main, fresh);
    show("live");
  } catch {
    show("not live: trying again");
    clearTimeout(timer);
    timer = setTimeout(refresh, 3000);
  } finally {
    fetching = false;
    if (again) { again = false; setTimeout(refresh, SOON_MS); }
  }
};

const close = () => { if (source) { source.close(); source = null; } };

const open = () => {
  if (source || document.hidden) return;
  source = new EventSource(`/events?of=${encodeURIComponent(main.dataset.live)}`);
  source.addEventListener("change", refresh); // the first one comes at once: what changed meanwhile
  source.addEventListener("error", () => {
    show("not live: trying again");
    if (source && source.readyState === EventSource.CLOSED) { close(); refresh(); setTimeout(open, 5000); }
  });
};

if (main && main.dataset.live && window.EventSource) {
  open();
  document.addEventListener("visibilitychange", () => { if (document.hidden) { close(); show("paused"); } else open(); });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
}
