// Templates of well-known checkpoints, with what Jinja makes of them.
#include "executor/serve/chat_template.h"

#include <doctest/doctest.h>

namespace imhotep::executor {
namespace {

const ChatInput& hello() {
  static const ChatInput kHello{.messages = {{"system", " Be kind. "},
                                             {"user", "Hi"},
                                             {"assistant", "Yes?"},
                                             {"user", "Bye"}},
                                .beginning = "<s>",
                                .end = "</s>"};
  return kHello;
}

}  // namespace

TEST_CASE("ChatML") {
  const std::string source =
      "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] "
      "+ "
      "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
      "}}{% endif %}";
  CHECK(render_chat(source, hello()) ==
        "<|im_start|>system\n Be kind. <|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n");
}

TEST_CASE("Llama 2, with a system prompt, set, slices and an exception") {
  const std::string source =
      "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set "
      "system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% "
      "set "
      "system_message = false %}{% endif %}{% for message in loop_messages %}{% if "
      "(message['role'] "
      "== 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% "
      "endif "
      "%}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + "
      "system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = "
      "message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' "
      "+ "
      "content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + "
      "content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";
  CHECK(render_chat(source, hello()) ==
        "<s>[INST] <<SYS>>\n Be kind. \n<</SYS>>\n\nHi [/INST] Yes? </s><s>[INST] Bye [/INST]");
  ChatInput wrong = hello();
  wrong.messages.erase(wrong.messages.begin() + 1);
  CHECK_THROWS_WITH_AS(static_cast<void>(render_chat(source, wrong)), "Roles must alternate",
                       TemplateError);
}

TEST_CASE("Llama 3, with trimmed blocks and a filter") {
  const std::string source =
      "{% set loop_messages = messages %}\n{% for message in loop_messages %}\n  {% set content = "
      "'<|h|>' + message['role'] + '<|e|>\\n\\n'+ message['content'] | trim + '<|eot|>' %}\n{% if "
      "loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor "
      "%}{{ '<|h|>assistant<|e|>\\n\\n' }}";
  CHECK(render_chat(source, hello()) ==
        "<s><|h|>system<|e|>\n\nBe kind.<|eot|><|h|>user<|e|>\n\nHi<|eot|>"
        "<|h|>assistant<|e|>\n\nYes?<|eot|><|h|>user<|e|>\n\nBye<|eot|><|h|>assistant<|e|>\n\n");
}

TEST_CASE("white space goes where Jinja lets it go") {
  CHECK(render_chat("a  {%- if true -%}  b  {%- endif -%}  c", {}) == "abc");
  CHECK(render_chat("a\n  {% if true %}\nb\n  {% endif %}\nc", {}) == "a\nb\nc");
  CHECK(render_chat("a {{- ' b ' -}} c", {}) == "a b c");
  CHECK(render_chat("a{# gone #}b { c", {}) == "ab { c");
}

TEST_CASE("expressions") {
  const struct {
    const char* source;
    const char* result;
  } cases[] = {
      {"{{ 1 + 2 * 3 - 4 }}", "3"},
      {"{{ 'yes' if 1 < 2 and not false else 'no' }}", "yes"},
      {"{{ 'a' ~ 1 ~ none }}", "a1None"},
      {"{{ x is defined }} {{ x is not defined }} {{ bos_token is string }}", "False True True"},
      {"{{ 'ab' in 'cabd' }} {{ 'x' not in ['x', 'y'] }}", "True False"},
      {"{{ 'abcdef'[1:3] }}{{ 'abc'[-2:] }}{{ [1, 2, 3][-1] }}", "bcbc3"},
      {"{{ 'a,b' | upper }} {{ [1,2] | length }} {{ y | default('z') }}", "A,B 2 z"},
      {"{{ 'Abc'.startswith('Ab') }} {{ ' x '.lstrip() }}|", "True x |"},
      {"{% set ns = namespace(n=0) %}{% for i in [1,2,3] %}{% set ns.n = ns.n + i %}{% endfor %}{{ "
       "ns.n }}",
       "6"},
      {"{% for i in [1,2] %}{% set k = i %}{% endfor %}{{ k is defined }}", "False"},
      {"{% for m in [3,4,5] %}{% if loop.first %}f{% elif loop.last %}l{% else %}m{% endif %}{% "
       "endfor %}",
       "fml"},
      {"{% for i in [1,2,3][::-1] %}{{ i }}{% endfor %}", "321"},
      {"{{ raise_exception('no') if false else 'fine' }}", "fine"},
      {"{{ true or raise_exception('no') }}", "True"},
  };
  for (const auto& one : cases) {
    CAPTURE(std::string(one.source));
    CHECK(render_chat(one.source, {}) == one.result);
  }
}

TEST_CASE("what is not understood is an error") {
  for (const char* source :
       {"{{ 1", "{% if true %}a", "{% for x in 3 %}{% endfor %}", "{{ a | nonsense }}",
        "{% macro %}", "{% endif %}", "{{ 'a }}", "{{ raise_exception('x') }}", "{{ 1 % 0 }}",
        "{{ [1] }}", "{{ a.b() }}", "{% set %}", "{{ }}", "{% else %}", "{{ 1 2 }}"}) {
    CAPTURE(std::string(source));
    CHECK_THROWS_AS(static_cast<void>(render_chat(source, {})), TemplateError);
  }
  const std::string deep = "{{ " + std::string(500, '(') + "1" + std::string(500, ')') + " }}";
  CHECK_THROWS_AS(static_cast<void>(render_chat(deep, {})), TemplateError);
}

}  // namespace imhotep::executor
