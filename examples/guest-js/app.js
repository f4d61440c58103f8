// `/js/{model}` asks a model provider under the key `provider/{model}`, which it shares with whatever else runs on this host.

import { getEnvironment } from "wasi:cli/environment@0.2.10";
import { acquire, release } from "weir:flow/leases-sync@0.1.0-draft.2";

addEventListener("fetch", (event) => event.respondWith(handle(new URL(event.request.url).pathname)));

async function handle(path) {
    const model = path.replace("/js/", "");
    let lease;
    try {
        // Waits its turn. Each request has an instance of its own, so nobody else waits for that.
        lease = acquire("provider", model, 1, undefined);
    } catch (error) {
        return refused(error.payload);
    }
    try {
        const { PROVIDER } = Object.fromEntries(getEnvironment());
        const response = await fetch(`${PROVIDER}/v1/chat/${model}`);
        // Ends when the whole answer is here: until then the provider counts the call as running.
        const text = await response.text();
        release(lease, { tag: "ok" });
        return new Response(text, { status: response.status });
    } catch (error) {
        release(lease, { tag: "failed" });
        return new Response(`the provider does not answer: ${error}\n`, { status: 502 });
    }
}

function refused({ reason, message, retryAfter }) {
    if (retryAfter === undefined) {
        return new Response(`${message}\n`, { status: reason === "invalid" ? 400 : 503 });
    }
    const seconds = (retryAfter + 999_999_999n) / 1_000_000_000n;
    return new Response(`${message}\n`, { status: 429, headers: { "retry-after": `${seconds}` } });
}
