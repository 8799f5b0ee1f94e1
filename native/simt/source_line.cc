#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <dlfcn.h>

#include "simt/races.h"

namespace eq::simt {

namespace {

/// Without parameters, template arguments and namespaces.
std::string short_name(std::string name) {
  std::string out;
  int depth = 0;
  constexpr std::string_view kAnonymous = "(anonymous namespace)::";
  for (std::size_t at; (at = name.find(kAnonymous)) != std::string::npos;) name.erase(at, kAnonymous.size());
  for (const char c : name) {
    if (c == '(' && depth == 0) break;
    if (c == '>') --depth;
    if (depth == 0) out += c;
    if (c == '<') ++depth;
  }
  return out.substr(out.find_last_of(": ") + 1);
}

std::string short_file(const std::string& file) {
  const std::string path = std::filesystem::path(file).lexically_normal();
  const std::size_t at = path.rfind("/native/");
  return at == std::string::npos ? path : path.substr(at + 1);
}

}  // namespace

std::string describe_place(std::uint32_t offset) {
  Dl_info library{};
  dladdr(reinterpret_cast<const void*>(&describe_place), &library);
  char unknown[32];
  std::snprintf(unknown, sizeof unknown, "code at +0x%x", offset);
  // Just before where a call returns to.
  char command[4096];
  const int length = std::snprintf(command, sizeof command, "addr2line -f -C -i -e '%s' 0x%x 2>/dev/null",
                                   library.dli_fname, offset - 1);
  if (length < 0 || length >= static_cast<int>(sizeof command)) return unknown;
  std::FILE* output = popen(command, "r");
  if (output == nullptr) return unknown;
  // Pairs of function and place, the innermost first.
  std::vector<std::string> lines(1);
  for (int c; (c = std::fgetc(output)) != EOF;) {
    if (c == '\n')
      lines.emplace_back();
    else
      lines.back() += static_cast<char>(c);
  }
  pclose(output);
  if (lines.size() < 3 || lines[1].starts_with("??")) return unknown;
  std::string text;
  for (std::size_t i = 0; i + 1 < lines.size(); i += 2) {
    if (i > 0) text += ", called at ";
    text += short_name(lines[i]) + " (" + short_file(lines[i + 1].substr(0, lines[i + 1].find(' '))) + ")";
  }
  return text;
}

}  // namespace eq::simt
