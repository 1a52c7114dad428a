"""A small residual pyramid as a Hugging Face style folder: served, it says what plain arithmetic says.

usage: hugging_face.py IMHOTEP TOKENIZER

The folder is written without the program's own code: names and shapes from docs/formats/checkpoint.md,
tensors in two shards, one of them BF16. greedy() is the model once more, in double, one token at a
time. Only the standard library is needed.
"""

import json
import math
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

LAYERS, HIDDEN, HEADS, VOCAB, CONTEXT, EXPERTS = 4, 32, 4, 700, 64, [0, 2, 0, 8]
FFN, ROWS = 4 * HIDDEN, 768  # words are padded to a multiple of 128


def shapes():
    yield "embedding.token.weight", [ROWS, HIDDEN]
    yield "embedding.position.weight", [CONTEXT, HIDDEN]
    for layer, experts in enumerate(EXPERTS):
        block = f"blocks.{layer}."
        for norm in ("attention_norm", "mlp_norm"):
            yield f"{block}{norm}.weight", [HIDDEN]
            yield f"{block}{norm}.bias", [HIDDEN]
        yield f"{block}attention.qkv.weight", [3, HIDDEN, HIDDEN]
        yield f"{block}attention.qkv.bias", [3, HIDDEN]
        yield f"{block}attention.projection.weight", [HIDDEN, HIDDEN]
        yield f"{block}attention.projection.bias", [HIDDEN]
        paths = ["mlp"] + [f"experts.{e}" for e in range(experts)]
        for path in paths:
            yield f"{block}{path}.up.weight", [FFN, HIDDEN]
            yield f"{block}{path}.up.bias", [FFN]
            yield f"{block}{path}.down.weight", [HIDDEN, FFN]
            yield f"{block}{path}.down.bias", [HIDDEN]
        if experts:
            yield f"{block}gate.weight", [experts, HIDDEN]
            yield f"{block}coefficient.weight", [2, HIDDEN]
            yield f"{block}coefficient.bias", [2]
    yield "final_norm.weight", [HIDDEN]
    yield "final_norm.bias", [HIDDEN]


def write_folder(folder, tokenizer):
    """Returns the tensors, flat, by name."""
    config = {
        "model_type": "pr_moe", "architectures": ["PrMoeForCausalLM"],
        "_name_or_path": "somebody/pyramid", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN,
        "num_attention_heads": HEADS, "vocab_size": VOCAB, "max_position_embeddings": CONTEXT,
        "num_experts": EXPERTS, "num_experts_per_tok": 1, "residual_moe": True,
        "intermediate_size": FFN, "hidden_act": "gelu_new", "tie_word_embeddings": True,
        "eos_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(tokenizer, folder / "tokenizer.json")
    draw = random.Random(11)
    tensors, shards = {}, [[], []]
    for index, (name, shape) in enumerate(shapes()):
        narrow = index % 2 == 1
        base = 1.0 if name.endswith("norm.weight") else 0.0
        deviation = 1.0 if "gate" in name or "embedding" in name else 0.25
        values = [base + deviation * draw.gauss(0, 1) for _ in range(math.prod(shape))]
        packed = struct.pack(f"<{len(values)}f", *values)
        if narrow:  # the upper half of each float, which is then the value
            packed = b"".join(packed[i + 2:i + 4] for i in range(0, len(packed), 4))
            whole = b"".join(b"\0\0" + packed[i:i + 2] for i in range(0, len(packed), 2))
        else:
            whole = packed
        tensors[name] = struct.unpack(f"<{len(values)}f", whole)
        shards[narrow].append((name, shape, packed))
    index = {"metadata": {"total_size": 0}, "weight_map": {}}
    for number, shard in enumerate(shards):
        file = f"model-{number + 1:05}-of-00002.safetensors"
        header, at = {}, 0
        for name, shape, packed in shard:
            header[name] = {"dtype": ["F32", "BF16"][number], "shape": shape,
                            "data_offsets": [at, at + len(packed)]}
            at += len(packed)
            index["weight_map"][name] = file
            index["metadata"]["total_size"] += len(packed)
        text = json.dumps(header).encode()
        data = b"".join(packed for _, _, packed in shard)
        (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return tensors


def product(x, weight, bias=None):
    width = len(x)
    out = [sum(a * b for a, b in zip(x, weight[r:r + width])) for r in range(0, len(weight), width)]
    return [o + b for o, b in zip(out, bias)] if bias else out


def norm(x, gain, shift):
    mean = sum(x) / len(x)
    scale = 1 / math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + 1e-5)
    return [(v - mean) * scale * g + s for v, g, s in zip(x, gain, shift)]


def softmax(x):
    high = max(x)
    powers = [math.exp(v - high) for v in x]
    return [p / sum(powers) for p in powers]


def gelu(x):
    return [0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v ** 3))) for v in x]


class Model:
    def __init__(self, tensors):
        self.of = tensors
        self.cache = [([], []) for _ in EXPERTS]

    def dense(self, n, path):
        of = self.of
        up = gelu(product(n, of[f"{path}.up.weight"], of[f"{path}.up.bias"]))
        return product(up, of[f"{path}.down.weight"], of[f"{path}.down.bias"])

    def attend(self, n, layer):
        of, size = self.of, HIDDEN // HEADS
        path = f"blocks.{layer}.attention"
        qkv = product(n, of[f"{path}.qkv.weight"], of[f"{path}.qkv.bias"])
        keys, values = self.cache[layer]
        keys.append(qkv[HIDDEN:2 * HIDDEN])
        values.append(qkv[2 * HIDDEN:])
        context = []
        for h in range(0, HIDDEN, size):
            scores = softmax([sum(a * b for a, b in zip(qkv[h:h + size], k[h:h + size]))
                              / math.sqrt(size) for k in keys])
            context += [sum(s * v[h + d] for s, v in zip(scores, values)) for d in range(size)]
        return product(context, of[f"{path}.projection.weight"], of[f"{path}.projection.bias"])

    def feed(self, n, layer):
        of, block = self.of, f"blocks.{layer}"
        mlp = self.dense(n, f"{block}.mlp")
        if not EXPERTS[layer]:
            return mlp
        chances = softmax(product(n, of[f"{block}.gate.weight"]))
        best = max(range(len(chances)), key=chances.__getitem__)
        expert = self.dense(n, f"{block}.experts.{best}")
        first, second = softmax(product(n, of[f"{block}.coefficient.weight"],
                                        of[f"{block}.coefficient.bias"]))
        return [first * chances[best] * e + second * m for e, m in zip(expert, mlp)]

    def step(self, token, position):
        """Log-probabilities of the next word."""
        of = self.of
        word, place = token * HIDDEN, position * HIDDEN
        x = [a + b for a, b in zip(of["embedding.token.weight"][word:word + HIDDEN],
                                   of["embedding.position.weight"][place:place + HIDDEN])]
        for layer in range(LAYERS):
            for part, work in (("attention", self.attend), ("mlp", self.feed)):
                name = f"blocks.{layer}.{part}_norm"
                n = norm(x, of[f"{name}.weight"], of[f"{name}.bias"])
                x = [a + b for a, b in zip(x, work(n, layer))]
        n = norm(x, of["final_norm.weight"], of["final_norm.bias"])
        logits = product(n, of["embedding.token.weight"][:VOCAB * HIDDEN])
        high = max(logits)
        total = high + math.log(sum(math.exp(v - high) for v in logits))
        return [v - total for v in logits]


def greedy(tensors, prompt, count):
    """Tokens, and the log-probability of each."""
    model, answer, position = Model(tensors), [], 0
    for token in prompt[:-1]:
        model.step(token, position)
        position += 1
    token = prompt[-1]
    for _ in range(count):
        logprobs = model.step(token, position)
        position += 1
        token = max(range(VOCAB), key=logprobs.__getitem__)
        answer.append((token, logprobs[token]))
    return answer


def ask(port, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, timeout=120) as answer:
        return json.loads(answer.read())


def start(imhotep, run, folder):
    port = folder / "port"
    server = subprocess.Popen([imhotep, "serve", str(run), "--device", "cpu", "--quiet",
                               "--port", "0", "--port-file", str(port)])
    for _ in range(1200):
        if port.exists() and port.read_text():
            return server, int(port.read_text())
        if server.poll() is not None:
            sys.exit(f"the server ended with {server.returncode}")
        time.sleep(0.05)
    sys.exit("the server did not start")


def check(port, tensors, tokenizer):
    [entry] = ask(port, "/v1/models")["data"]
    assert entry["id"] == "somebody/pyramid", entry
    vocabulary = json.loads(Path(tokenizer).read_text())["model"]["vocab"]
    word = vocabulary["\u0120experts"]
    assert ask(port, "/tokenize", {"prompt": " experts"})["tokens"] == [word]
    assert ask(port, "/detokenize", {"tokens": [word]})["prompt"] == " experts"
    for prompt in ([3, 17, 250], [650, 9, 9, 41, 333, 12], [5] * 30):
        expected = greedy(tensors, prompt, 8)
        answer = ask(port, "/v1/completions", {
            "prompt": prompt, "max_tokens": 8, "temperature": 0, "logprobs": 1, "ignore_eos": True})
        got = answer["choices"][0]["logprobs"]["token_logprobs"]
        worst = max(abs(a - b) for a, (_, b) in zip(got, expected))
        text = ask(port, "/detokenize", {"tokens": [token for token, _ in expected]})["prompt"]
        print(f"{prompt}: {text!r}, log-probabilities within {worst:.1e}")
        assert len(got) == 8 and worst < 1e-4, (got, expected)
        assert answer["choices"][0]["text"] == text, (answer, text)


def main():
    imhotep, tokenizer = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = folder / "pyramid"
        run.mkdir()
        tensors = write_folder(run, tokenizer)
        server, port = start(imhotep, run, folder)
        try:
            check(port, tensors, tokenizer)
        finally:
            server.terminate()
            code = server.wait(60)
        assert code == 0, code


main()
