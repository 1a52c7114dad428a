#pragma once
// Chat templates as checkpoints carry them: the part of Jinja that they use. Text, {{ expressions
// }},
// {% for %}, {% if %}, {% set %} (also of a namespace), comments, white-space control; literals,
// lists, attributes, indices and slices, operators, tests (defined, none, string), the usual
// filters and string methods, raise_exception. Whatever else is met is an error, never a silent
// difference. Sources: jinja.palletsprojects.com, "Template Designer Documentation";
// huggingface.co/docs, "Chat templates" (trim_blocks and lstrip_blocks are on).

#include <stdexcept>
#include <string>
#include <vector>

namespace imhotep::executor {

struct TemplateError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct ChatMessage {
  std::string role, content;
};

struct ChatInput {
  std::vector<ChatMessage> messages;
  std::string beginning, end;  // bos_token and eos_token
  bool add_generation_prompt = true;
};

// Throws: TemplateError, also by the template's own raise_exception.
[[nodiscard]] std::string render_chat(const std::string& source, const ChatInput& input);

}  // namespace imhotep::executor
