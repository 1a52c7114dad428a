"""The official openai client, and Prometheus' parser, against `imhotep serve`.

usage: openai_client.py IMHOTEP MODEL  (needs the packages openai and prometheus-client)
"""

import asyncio
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
from prometheus_client.parser import text_string_to_metric_families

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def start(imhotep, run, folder, *options):
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    server = subprocess.Popen([imhotep, "serve", str(run), "--port", "0", "--port-file",
                               str(port_file), "--device", "cpu", "--quiet", *options])
    for _ in range(600):
        if port_file.exists() and port_file.read_text():
            return server, int(port_file.read_text())
        if server.poll() is not None:
            sys.exit(f"the server ended with {server.returncode}")
        time.sleep(0.05)
    sys.exit("the server did not start")


def client_of(port, key="key"):
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0,
                         timeout=120)


def end(server):
    server.terminate()
    code = server.wait(60)
    expect(code == 0, "after SIGTERM the server ends with 0")


def expect(condition, what):
    if not condition:
        sys.exit(f"failed: {what}")
    print("ok:", what)


def check(client, port):
    models = client.models.list().data
    expect(len(models) == 1, "one model is listed")
    name = models[0].id
    expect(client.models.retrieve(name).id == name, "the model can be retrieved")

    asked = {"model": name, "prompt": "Once upon", "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(**asked)
    expect(whole.choices[0].finish_reason == "length", "a completion ends at its length")
    expect(whole.usage.completion_tokens == 12, "usage counts the tokens")
    text, chunks = "", 0
    for chunk in client.completions.create(**asked, stream=True,
                                           stream_options={"include_usage": True}):
        if chunk.choices:
            text += chunk.choices[0].text
            chunks += 1
        else:
            expect(chunk.usage.completion_tokens == 12, "a stream ends in its usage")
    expect(text == whole.choices[0].text and chunks == 12, "a stream adds up to the completion")

    logprobs = client.completions.create(**asked, logprobs=3).choices[0].logprobs
    expect(len(logprobs.tokens) == 12 and len(logprobs.top_logprobs[0]) >= 3, "log-probabilities")
    seeded = [client.completions.create(model=name, prompt="x", max_tokens=8, seed=5).choices[0].text
              for _ in range(2)]
    expect(seeded[0] == seeded[1], "a seed repeats")
    several = client.completions.create(model=name, prompt=["a", "b"], n=2, max_tokens=3)
    expect([c.index for c in several.choices] == [0, 1, 2, 3], "several prompts and answers")
    stop = whole.choices[0].text[3:5]
    stopped = client.completions.create(**asked, stop=[stop]).choices[0]
    expect(stopped.finish_reason == "stop" and stop not in stopped.text, "a stop string")

    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    chat = client.chat.completions.create(model=name, messages=messages, max_tokens=6,
                                          temperature=0, logprobs=True, top_logprobs=2)
    expect(chat.choices[0].message.role == "assistant", "a chat")
    expect(len(chat.choices[0].logprobs.content[0].top_logprobs) == 2, "a chat's log-probabilities")
    parts = [c.choices[0].delta.content for c in client.chat.completions.create(
        model=name, messages=messages, max_tokens=6, temperature=0, stream=True)]
    expect("".join(parts) == chat.choices[0].message.content, "a chat's stream")

    for arguments, error in (({"prompt": "a", "max_tokens": 10**6}, openai.BadRequestError),
                             ({"prompt": "a", "model": "other"}, openai.NotFoundError),
                             ({"prompt": "a", "temperature": 9}, openai.BadRequestError)):
        try:
            client.completions.create(**({"model": name} | arguments))
            sys.exit(f"failed: {arguments} was accepted")
        except error as raised:
            expect(bool(raised.message), f"{error.__name__} for {arguments}")
    stranger = client_of(port, "no")
    try:
        stranger.models.list()
        sys.exit("failed: a wrong key was accepted")
    except openai.AuthenticationError:
        expect(True, "AuthenticationError for a wrong key")

    stream = client.completions.create(model=name, prompt="a", max_tokens=60, stream=True)
    next(iter(stream))
    stream.close()  # leaves in the middle
    with ThreadPoolExecutor(32) as pool:
        texts = list(pool.map(lambda _: client.completions.create(**asked).choices[0].text,
                              range(64)))
    expect(all(t == whole.choices[0].text for t in texts), "64 requests at once, one greedy text")


    raw = client.completions.with_raw_response.create(**asked,
                                                      extra_headers={"X-Request-ID": "mine-7"})
    expect(raw.headers["x-request-id"] == "mine-7", "the request's id is echoed")

    async def stream_of(asynchronous):
        return "".join([c.choices[0].text async for c in
                        await asynchronous.completions.create(**asked, stream=True)])

    async def streams():
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="key") as a:
            return await asyncio.gather(*[stream_of(a) for _ in range(16)])

    expect(set(asyncio.run(streams())) == {whole.choices[0].text}, "16 asynchronous streams")


def check_metrics(port):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics",
                                     headers={"Authorization": "Bearer key"})
    text = urllib.request.urlopen(request).read().decode()
    families = {f.name: f for f in text_string_to_metric_families(text)}
    for name in ("requests_running", "requests_waiting", "kv_cache_usage_ratio", "preemptions",
                 "prompt_tokens", "generation_tokens", "requests", "time_to_first_token_seconds",
                 "inter_token_latency_seconds", "e2e_request_latency_seconds",
                 "request_queue_time_seconds", "request_inference_time_seconds",
                 "request_prefill_time_seconds", "request_decode_time_seconds",
                 "request_prompt_tokens", "request_generation_tokens", "request_max_tokens",
                 "expert_tokens", "expert_imbalance_ratio", "active_experts", "dropped_tokens",
                 "exchange_seconds", "build_info", "plan_info"):
        if f"imhotep_{name}" not in families:
            sys.exit(f"failed: no metric {name}")
    tokens = families["imhotep_generation_tokens"].samples[0].value
    counted = {s.name: s.value for s in families["imhotep_request_generation_tokens"].samples}
    expect(tokens >= counted["imhotep_request_generation_tokens_sum"] > 64 * 12,
           "Prometheus' parser reads the metrics")


def check_overload(imhotep, model, folder):
    """One place in the batch and one in the queue, twelve clients."""
    server, port = start(imhotep, model, folder, "--random-weights", "--sequences", "1",
                         "--max-queue", "1")
    try:
        client = client_of(port)

        def ask(_):
            try:
                return client.completions.create(model=model, prompt="a", max_tokens=60,
                                                 extra_body={"ignore_eos": True})
            except openai.RateLimitError as refused:
                return refused

        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(ask, range(36)))
        refused = [a for a in answers if isinstance(a, openai.RateLimitError)]
        expect(all(int(r.response.headers["retry-after"]) >= 1 for r in refused) and refused,
               f"RateLimitError with Retry-After ({len(refused)} of 36)")
        whole = [a for a in answers if not isinstance(a, openai.RateLimitError)]
        expect(whole and all(a.usage.completion_tokens == 60 for a in whole),
               "what was accepted is answered whole")
    finally:
        end(server)


def main():
    imhotep, model = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        template = folder / "template.jinja"
        template.write_text(TEMPLATE)
        server, port = start(imhotep, model, folder, "--random-weights", "--api-key", "key",
                             "--chat-template", str(template))
        try:
            check(client_of(port), port)
            check_metrics(port)
        finally:
            end(server)
        check_overload(imhotep, model, folder)


main()
