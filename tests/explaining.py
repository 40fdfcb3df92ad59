"""A server that answers as a language model would, in tests, in whatever way they ask for."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sae_circuits.features.labels.strategies.explainer import JUDGE


class Server:
    """A chat completions server: `answer` gets each prompt and how many came before."""

    def __init__(self, answer: Callable[[str], object]) -> None:
        self.prompts: list[str] = []
        self.requests: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.honest = answer
        self.answer: Callable[[str, int], object] = lambda prompt, n: answer(prompt)
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.requests.append({"path": self.path, **body})
                server.headers.append({k.lower(): v for k, v in self.headers.items()})
                server.prompts.append(body["messages"][0]["content"])
                status, headers, text = as_response(
                    server.answer(server.prompts[-1], len(server.prompts) - 1)
                )
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(text.encode())
                except OSError:
                    pass  # the caller has gone: that is what some tests are about

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()


def as_response(answer: object) -> tuple[int, dict[str, str], str]:
    """A text as a completion; a tuple of status, headers and body as it stands."""
    if isinstance(answer, tuple):
        return answer
    message = {"choices": [{"message": {"content": answer}}], "usage": {"total_tokens": 100}}
    return 200, {}, json.dumps(message)


def literal(prompt: str) -> str:
    """The words that fire as a label, and where the words of such a label stand."""
    if not prompt.startswith(JUDGE[:40]):
        return json.dumps({"label": " / ".join(sorted(set(re.findall("<<(.*?)>>", prompt))))})
    label, texts = (
        re.search("described so: (.*)\n", prompt),
        re.findall(r"Text (\d+): (.*)", prompt),
    )
    words = label[1].split(" / ") if label else []
    tokens = {n: re.findall(r"(\d+)='([^']*)'", text) for n, text in texts}
    said = {n: [int(i) for i, word in some if word.strip() in words] for n, some in tokens.items()}
    return json.dumps(said)


def serving(answer: Callable[[str], object] = literal) -> Iterator[Server]:
    """A server, until it is asked for again."""
    made = Server(answer)
    yield made
    made.http.shutdown()
    made.thread.join()
    made.http.server_close()
