"""Trains two small byte-level BPE tokenizers and writes what the library makes of some texts.

usage: make_cases.py TEXT     (needs the package tokenizers; cases here: 0.23.3, TEXT = docs/glossary.md)
"""

import json
import sys

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
TEXTS = [
    "", " ", "  ", "\n", "a", "Hello, world!", "It's we're they'LL I'd", "  two  spaces   three",
    "tabs\tand\r\nlines\n\n\nmore", "trailing space ", " leading", "1234567 3.14 1,000", "x=y+z;//c",
    "naïve café Ünïcödé", "你好,世界", "Привет мир", "مرحبا", "👍🏽 emoji 👨‍👩‍👧", "a\u0301 combining",
    "\u00a0nbsp\u2003em\u3000ideographic", "mixed你好hello", "________", "<|endoftext|>", "CamelCase",
    "the experts of the layer are divided over the ranks", "'''", "don't can't won't", "a" * 50,
    "0", "00000", "$100 & 20%", "\u200bzero\u200bwidth", "tab\t\tend\t", "(parentheses) [brackets]",
    "ﬁ ligature Ⅳ roman ² super", "line\u2028separator", "e-mail@example.com", "\x00\x01control",
]


def train(splitter, lines):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=["<|endoftext|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = file.readlines()
    kinds = {
        "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
        "llama3": pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]),
    }
    for name, splitter in kinds.items():
        tokenizer = train(splitter, lines)
        tokenizer.save(f"{name}.json", pretty=False)
        # The library reads names of special tokens in a text as tokens; ours is asked without.
        plain = [text for text in TEXTS if "<|" not in text]
        cases = [{"text": text, "tokens": tokenizer.encode(text).ids} for text in plain]
        with open(f"{name}.cases.json", "w", encoding="utf-8") as file:
            json.dump(cases, file, ensure_ascii=True, separators=(",", ":"))


main()
