"""Who gets into the console: sessions, the token of forms, and errors as pages."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from aiohttp import web

from nightmill_gateway.access.caller import CALLER, LOOPBACK, name_of
from nightmill_gateway.access.key import id_of
from nightmill_gateway.answers.errors import ApiError, api_error
from nightmill_gateway.answers.log import report
from nightmill_gateway.answers.reply import REQUEST_ID
from nightmill_gateway.console.assets import PATH as ASSETS
from nightmill_gateway.console.forms import (
    AFTER_LOGIN,
    BEFORE_LOGIN,
    FORM,
    own_path,
    read_form,
    require_own_origin,
)
from nightmill_gateway.console.page_limit import page_limit
from nightmill_gateway.console.pages import CSRF, render, see_other
from nightmill_gateway.console.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nightmill_gateway.access.caller import Access, Caller
    from nightmill_gateway.services import Services

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LOGIN: Final = "/login"
LOGOUT: Final = "/logout"
COOKIE: Final = "nightmill_session"
WAIT_S: Final = 60
"""How long an address waits that has sent too many wrong keys, seconds."""
_NO_TLS: Final = (
    "This page came over plain HTTP, so a key would be readable on its way. Open the console over "
    "HTTPS, or on the gateway's own machine by http://localhost."
)


class Entrance:
    """Lets requests for pages in, and answers those that may not."""

    def __init__(self, services: Services, access: Access) -> None:
        """Take the connections, and who may call."""
        self._access = access
        self._sessions = Sessions(services)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to log in and out."""
        return [
            web.get(LOGIN, self._login_page),
            web.post(LOGIN, self._login),
            web.post(LOGOUT, self._logout),
        ]

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Return the page of a request, or the page of its error."""
        try:
            async with page_limit(request):
                return await self._admitted(request, handler)
        except web.HTTPException as error:
            if error.status < HTTPStatus.BAD_REQUEST:
                raise
            failed = ApiError(error.status, _of_http(request, error))
        except ConnectionError:  # the browser has left
            raise
        except Exception as error:  # noqa: BLE001 - a browser gets a page whatever failed
            failed = api_error(error) or _defect(error, request[REQUEST_ID])
        if failed.status == HTTPStatus.UNAUTHORIZED and request.method == "GET":
            return see_other(f"{LOGIN}?next={quote(request.path_qs)}")
        page = render(
            request,
            "error.html",
            status=failed.status,
            error=failed,
            id=_id(request),
            of_form=request.method == "POST",
        )
        page.headers.update(failed.headers)
        return page

    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(f"{ASSETS}/"):
            return await handler(request)
        if request.method == "POST":
            require_own_origin(request.headers)
        if request.path == LOGIN:
            return await handler(request)
        session = request.cookies.get(COOKIE, "") if self._access.by_key else ""
        caller = request[CALLER] = await self._caller(request, session)
        token = request[CSRF] = await self._sessions.token(session)
        if request.method == "POST":
            form = request[FORM] = await read_form(request, AFTER_LOGIN)
            if not hmac.compare_digest(form["csrf"].encode(), token.encode()):
                raise ApiError(403, "the form is out of date: go back, reload the page, try again")
            if request.path != LOGOUT:
                caller.require_operator()
        return await handler(request)

    async def _caller(self, request: web.Request, session: str) -> Caller:
        """Return who is logged in. Raises ApiError 401 when nobody is."""
        if not self._access.by_key:
            return await self._access.holder(request.headers, "")
        key_id = await self._sessions.key_id(session)
        if key_id is None:
            raise ApiError(401, "not logged in: log in with a key")
        return await self._access.holder(request.headers, key_id)

    async def _login_page(self, request: web.Request) -> web.Response:
        if not self._access.by_key:
            return see_other("/")
        return self._form(request, next=own_path(request.query.get("next", "/")))

    def _form(
        self,
        request: web.Request,
        *,
        next: str,  # noqa: A002 - the name of the field
        problem: str = "",
        status: int = 200,
    ) -> web.Response:
        warning = "" if is_private(request) else _NO_TLS
        return render(
            request, "login.html", status=status, next=next, problem=problem, warning=warning
        )

    async def _login(self, request: web.Request) -> web.Response:
        """Begin a session for a valid key."""
        form = await read_form(request, BEFORE_LOGIN)
        target = own_path(form["next"])
        if not self._access.by_key:
            return see_other(target)
        if not is_private(request):
            return self._form(request, next=target, problem="The key was not used.", status=403)
        address, key = address_of(request), form["key"].strip()
        if not await self._sessions.tried(address):
            problem = f"Too many wrong keys from this address: wait {WAIT_S} s, then try again."
            page = self._form(request, next=target, problem=problem, status=429)
            page.headers["Retry-After"] = str(WAIT_S)
            return page
        try:
            await self._access.caller({"x-api-key": key})
        except ApiError as error:
            if error.status != HTTPStatus.UNAUTHORIZED:
                raise
            problem = "This key is not valid. A key begins with nm_; it may be revoked or expired."
            return self._form(request, next=target, problem=problem, status=401)
        await self._sessions.succeeded(address)
        session = await self._sessions.begin(id_of(key) or "")
        response = see_other(target)
        response.set_cookie(
            COOKIE,
            session,
            path="/",
            httponly=True,
            samesite="Strict",
            secure=not on_loopback(request),
        )
        return response

    async def _logout(self, request: web.Request) -> web.Response:
        await self._sessions.end(request.cookies.get(COOKIE, ""))
        response = see_other(LOGIN)
        response.del_cookie(COOKIE, path="/")
        return response


def on_loopback(request: web.Request) -> bool:
    """Tell whether the browser reached the gateway by a name of this machine."""
    return name_of(f"//{request.headers.get('host', '')}") in LOOPBACK


def is_private(request: web.Request) -> bool:
    """Tell whether nobody on the way reads what the browser sends."""
    forwarded = request.headers.get("x-forwarded-proto", request.scheme)
    return forwarded == "https" or on_loopback(request)


def address_of(request: web.Request) -> str:
    """Return the browser's address; that of a proxy on this machine stands for its clients'."""
    peer = request.remote or ""
    behind = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return (behind if peer in LOOPBACK and behind else peer)[:64]


def _of_http(request: web.Request, error: web.HTTPException) -> str:
    missing = error.status == HTTPStatus.NOT_FOUND
    return f"There is no page {request.path:.200}" if missing else error.reason


def _id(request: web.Request) -> str:
    return request[REQUEST_ID]


def _defect(error: Exception, request_id: str) -> ApiError:
    report(request_id, error)
    return ApiError(500, f"a defect of the gateway; its log has {request_id}")
