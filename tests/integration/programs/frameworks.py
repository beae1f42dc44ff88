# SPDX-License-Identifier: Apache-2.0
"""The same service on several frameworks: /call/REST asks UPSTREAM for /REST and answers with its body; /bytes/N answers N bytes.

    gunicorn frameworks:flask_app        uvicorn frameworks:fastapi_app        python frameworks.py PORT (aiohttp)

Each appends a line to LOG for every request it has answered: method, path, status. An append is one write: lines of several processes do not mix."""
import asyncio
import os
import sys
import threading

UPSTREAM, LOG = os.environ["UPSTREAM"], os.open(os.environ["LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def note(method, path, status):
    os.write(LOG, f"{method} {path} {status}\n".encode())


def make_flask():
    import flask
    import requests

    app, kept = flask.Flask("shop"), threading.local()

    @app.get("/call/<path:rest>")
    def call(rest):
        if not hasattr(kept, "session"):
            kept.session = requests.Session()
            kept.session.trust_env = False
        answer = kept.session.get(f"{UPSTREAM}/{rest}", timeout=30)
        return answer.content, answer.status_code

    @app.get("/bytes/<int:n>")
    def body(n):
        return b"b" * n

    @app.after_request
    def after(response):
        note(flask.request.method, flask.request.path, response.status_code)
        return response
    return app


def make_fastapi():
    import fastapi
    import httpx

    app, kept = fastapi.FastAPI(), []

    @app.middleware("http")
    async def logged(request, following):
        response = await following(request)
        note(request.method, request.url.path, response.status_code)
        return response

    @app.get("/call/{rest:path}")
    async def call(rest: str):
        if not kept:
            kept.append(httpx.AsyncClient(timeout=30, trust_env=False, limits=httpx.Limits(max_connections=200, max_keepalive_connections=200)))
        await asyncio.sleep(0.005)
        answer = await kept[0].get(f"{UPSTREAM}/{rest}")
        return fastapi.Response(answer.content, answer.status_code)

    @app.get("/bytes/{n}")
    async def body(n: int):
        return fastapi.Response(b"b" * n)
    return app


def make_aiohttp():
    import aiohttp
    from aiohttp import web

    async def session(app):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200)) as app["session"]:
            yield

    @web.middleware
    async def logged(request, handler):
        try:
            response = await handler(request)
        except web.HTTPException as e:             # a 404, among others
            response = e
        note(request.method, request.path, response.status)
        if isinstance(response, Exception):
            raise response
        return response

    async def call(request):
        await asyncio.sleep(0.005)
        async with request.app["session"].get(f"{UPSTREAM}/{request.match_info['rest']}") as answer:
            return web.Response(body=await answer.read(), status=answer.status)

    async def body(request):
        return web.Response(body=b"b" * int(request.match_info["n"]))

    app = web.Application(middlewares=[logged])
    app.cleanup_ctx.append(session)
    app.add_routes([web.get("/call/{rest:.*}", call), web.get("/bytes/{n}", body)])
    return app


if __name__ == "__main__":
    from aiohttp import web
    web.run_app(make_aiohttp(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


def __getattr__(name):
    """Only the framework that is asked for is loaded."""
    if name in ("flask_app", "fastapi_app"):
        globals()[name] = {"flask_app": make_flask, "fastapi_app": make_fastapi}[name]()
        return globals()[name]
    raise AttributeError(name)
