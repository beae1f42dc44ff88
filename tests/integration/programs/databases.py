# SPDX-License-Identifier: Apache-2.0
"""Clients of databases, redis-py and psycopg.

    databases.py redis MODE PORT COUNT        waits for a line on stdin, then makes COUNT rounds of COMMANDS: single, pipeline or transaction
    databases.py postgres MODE PORT COUNT     likewise of STATEMENTS: simple, extended or prepared
    gunicorn databases:app                    a Flask service whose handlers ask the databases of REDIS_PORT and POSTGRES_PORT: /redis/COMMAND/...
                                              makes that command, /postgres/N/... asks for table things_N, with a statement prepared on the server"""
import os
import sys
import threading

COMMANDS = [("SET", "text", "a value"), ("GET", "text"), ("LPUSH", "text", "x"), ("INCR", "number"), ("HSET", "hash", "field", "value"), ("MGET", "text", "number"),
            ("EXPIRE", "text", "soon"), ("DEL", "number")]
STATEMENTS = ["INSERT INTO things VALUES (%s, 'name')", "SELECT name FROM things WHERE id = %s", "UPDATE things SET name = 'other' WHERE id = %s",
              "INSERT INTO things VALUES (%s, 'again')", "SELECT * FROM nothing WHERE id = %s", "SELECT 1 / (%s - id) FROM things", "DELETE FROM things WHERE id = %s"]


def redis_client(port):
    import redis
    return redis.Redis(host="127.0.0.1", port=port, socket_timeout=20)


def postgres_client(port, **options):
    import psycopg
    return psycopg.connect(host="127.0.0.1", port=port, user="tester", dbname="postgres", autocommit=True, sslmode="disable", gssencmode="disable",
                           **options)


def ask_redis(mode, port, count):
    import redis
    client = redis_client(port)
    for _ in range(count):
        if mode == "single":
            for command in COMMANDS:
                try:
                    client.execute_command(*command)
                except redis.ResponseError:
                    pass
        else:
            with client.pipeline(transaction=mode == "transaction") as pipe:
                for command in COMMANDS:
                    pipe.execute_command(*command)
                pipe.execute(raise_on_error=False)


def ask_postgres(mode, port, count):
    import psycopg
    simple = {"cursor_factory": psycopg.ClientCursor} if mode == "simple" else {}
    with postgres_client(port, **simple) as connection:
        for i in range(count):
            for statement in STATEMENTS:
                try:
                    connection.execute(statement, (i,), prepare=mode == "prepared")
                except psycopg.Error:
                    pass


def make_app():
    import flask

    app, kept = flask.Flask("databases"), threading.local()

    @app.get("/redis/<command>/<path:_>")
    def of_redis(command, _):
        if not hasattr(kept, "redis"):
            kept.redis = redis_client(int(os.environ["REDIS_PORT"]))
        arguments = next((c for c in COMMANDS if c[0] == command))
        return str(kept.redis.execute_command(*arguments))

    @app.get("/postgres/<int:table>/<path:_>")
    def of_postgres(table, _):
        if not hasattr(kept, "postgres"):
            kept.postgres = postgres_client(int(os.environ["POSTGRES_PORT"]))
        return str(kept.postgres.execute(f"SELECT name, pg_sleep(0.002) FROM things_{table} WHERE id = %s", (7,), prepare=True).fetchall())
    return app


if __name__ == "__main__":
    kind, mode, port, count = sys.argv[1:]
    sys.stdin.readline()
    {"redis": ask_redis, "postgres": ask_postgres}[kind](mode, int(port), int(count))


def __getattr__(name):
    """Flask is loaded for the service only."""
    if name == "app":
        globals()[name] = make_app()
        return globals()[name]
    raise AttributeError(name)
