"""`GET /docs`: the OpenAPI description as one plain page, with nothing from any other host."""

from html import escape
from typing import Any

_STREAM = """\
<h2><code>WS /v1/stream</code></h2>
<p>Live sound. First the text message
<code>{"type": "start", "format": "pcm16", "sample_rate": 48000, "channels": 1}</code> or
<code>{"type": "start", "format": "webm"}</code>, with a <code>"token"</code> where one is wanted;
then binary messages: little-endian 16-bit samples, interleaved, or the chunks of WebM with Opus.
After every half second of sound comes
<code>{"type": "prediction", "time": ..., "silent": ..., "classes": [...]}</code>.
<code>{"type": "end"}</code> is answered by <code>{"type": "done", "seconds": ...}</code>, and what
goes wrong by <code>{"type": "error", "status": ..., "detail": "..."}</code>.</p>
"""


def page(openapi: dict[str, Any]) -> str:
    """HTML of the routes, their parameters, bodies and answers.

    Args:
      openapi: the description, as `/openapi.json` has it.
    """
    title = escape(f"{openapi['info']['title']} {openapi['info']['version']}")
    routes = [
        _route(method, path, route)
        for path, methods in openapi["paths"].items()
        for method, route in methods.items()
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" '
        f'content="light dark"><body><h1>{title}</h1><p>For programs: '
        f'<a href="/openapi.json">openapi.json</a>.</p>{"".join(routes)}{_STREAM}</body></html>'
    )


def _route(method: str, path: str, route: dict[str, Any]) -> str:
    lines = [
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>",
        f"<p>{escape(route.get('description', ''))}</p><ul>",
    ]
    for parameter in route.get("parameters", ()):
        about, schema = parameter.get("description", ""), parameter["schema"]
        default = f" ({schema['default']})" if "default" in schema else ""
        lines.append(
            f"<li><code>?{escape(parameter['name'])}=</code> {escape(schema['type'] + default)}"
            f" {escape(about)}</li>"
        )
    if kinds := route.get("requestBody", {}).get("content"):
        lines.append(f"<li>body: {escape(', '.join(kinds))}</li>")
    for status, answer in route["responses"].items():
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        name = schema.get("$ref", "").rpartition("/")[2]
        text = f"{status} {answer['description']} {name}"
        lines.append(f"<li>{escape(text)}</li>")
    return "".join([*lines, "</ul>"])
