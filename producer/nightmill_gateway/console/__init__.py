"""The web console: pages over the same queue, store and keys as the HTTP API.

How to add a page:

1. Write a class with `routes()`, as `batches/handlers.py` does, and add it to `_pages` in
   `console.py`. Add the page to `NAVIGATION` in `pages.py`, unless another page links to it.
2. A handler gets `request[CALLER]`, who is logged in, and returns `render(request, "name.html",
   ...)`. Its template extends `layout.html` and fills the blocks `title` and `main`.
3. Check whose it is: `may_see(caller, batch)` for a batch or a job, `require_all(caller)` for what
   all tenants share, such as lanes. What a caller may not see is answered with `not_found`.
4. An action is a POST of a form with `{{ csrf_field() }}`. The entrance has checked the role, the
   token and Origin before the handler runs, and `request[FORM]` has the fields. Show its button
   only when `caller.operates`. Answer with `see_other("/page", "what was done")`.
5. Templates escape every value. No template has `|safe`, a script, a `style` or an `on...`
   attribute: the content security policy refuses them. The width of a bar is an attribute of SVG.
6. Own scripts and styles are files in `static/`, in a template `{{ asset("console.js") }}`.
7. `macros.html` has badges, bars, times, and the empty state that says how to begin.

A failure is raised as ApiError, as in the API. The entrance makes a page of it.
"""
