"""`/python/{model}` asks a model provider under the key `provider/{model}`, which it shares with whatever else runs on this host."""

import os
from urllib.parse import urlsplit

import componentize_py_async_support
import wit_world
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import client, leases
from wit_world.imports.wasi_http_types import Fields, Request, Response, Scheme_Http, Scheme_Https
from wit_world.imports.weir_flow_types import Outcome_Failed, Outcome_Ok, Reason, Refusal


class Handler(exports.Handler):
    async def handle(self, request: Request) -> Response:
        model = (request.get_path_with_query() or "").removeprefix("/python/")
        try:
            # Waits its turn; the instance serves others meanwhile.
            lease = await leases.acquire("provider", model, 1, None)
        except Err as error:
            return refused(error.value)
        try:
            status, text = await ask(model)
        except Err as error:
            leases.release(lease, Outcome_Failed())
            return answer(502, f"the provider does not answer: {error.value}\n")
        leases.release(lease, Outcome_Ok())
        return answer(status, text)


async def ask(model: str) -> tuple[int, str]:
    """Ends when the whole answer is here: until then the provider counts the call as running."""
    provider = urlsplit(os.environ["PROVIDER"])
    request, _ = Request.new(Fields(), None, no_trailers(), None)
    request.set_scheme(Scheme_Https() if provider.scheme == "https" else Scheme_Http())
    request.set_authority(provider.netloc)
    request.set_path_with_query(f"/v1/chat/{model}")
    response = await client.send(request)
    status = response.get_status_code()
    body, _ = Response.consume_body(response, nothing_wrong())
    text = bytearray()
    with body:
        while not body.writer_dropped:
            text += await body.read(16 * 1024)
    return status, text.decode()


def refused(refusal: Refusal) -> Response:
    if refusal.retry_after is None:
        return answer(400 if refusal.reason == Reason.INVALID else 503, refusal.message + "\n")
    seconds = -(-refusal.retry_after // 1_000_000_000)
    return answer(429, refusal.message + "\n", [("retry-after", str(seconds).encode())])


def answer(status: int, text: str, more: list[tuple[str, bytes]] = []) -> Response:
    writer, body = wit_world.byte_stream()
    componentize_py_async_support.spawn(write(writer, text))
    headers = Fields.from_list([("content-type", b"text/plain"), *more])
    response, _ = Response.new(headers, body, no_trailers())
    response.set_status_code(status)
    return response


async def write(writer, text: str) -> None:
    with writer:
        await writer.write_all(text.encode())


# The names of the constructors of futures are those of their types.
def no_trailers():
    return wit_world.result_option_wasi_http_types_fields_wasi_http_types_error_code_future(lambda: Ok(None))[1]


def nothing_wrong():
    return wit_world.result_unit_wasi_http_types_error_code_future(lambda: Ok(None))[1]
