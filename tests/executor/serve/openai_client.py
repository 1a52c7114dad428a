"""The official openai client against `imhotep serve`.

usage: openai_client.py IMHOTEP MODEL        (needs the package openai)
"""

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def start(imhotep, model, folder):
    port_file = folder / "port"
    template = folder / "template.jinja"
    template.write_text(TEMPLATE)
    server = subprocess.Popen(
        [imhotep, "serve", model, "--random-weights", "--port", "0", "--port-file", str(port_file),
         "--api-key", "key", "--chat-template", str(template), "--quiet"]
    )
    for _ in range(600):
        if port_file.exists():
            return server, int(port_file.read_text())
        if server.poll() is not None:
            sys.exit(f"the server ended with {server.returncode}")
        time.sleep(0.05)
    sys.exit("the server did not start")


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
    stranger = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="no", max_retries=0)
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


def main():
    imhotep, model = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        server, port = start(imhotep, model, Path(folder))
        try:
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="key",
                                   max_retries=0, timeout=120)
            check(client, port)
        finally:
            server.terminate()
            code = server.wait(60)
        expect(code == 0, "after SIGTERM the server ends with 0")


main()
