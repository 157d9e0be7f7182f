#include "lexer.h"

#include <cctype>

namespace ptx {
namespace {

bool is_digit(char c) { return std::isdigit(static_cast<u8>(c)); }
bool is_letter(char c) { return std::isalpha(static_cast<u8>(c)); }
bool is_space(char c) { return std::isspace(static_cast<u8>(c)); }
bool is_word(char c) {
  return is_letter(c) || is_digit(c) || c == '_' || c == '$' || c == '.' || c == '%';
}

class Lexer {
 public:
  explicit Lexer(const string& source) : at_(source.data()), end_(source.data() + source.size()) {}

  std::vector<Token> run() {
    std::vector<Token> tokens;
    while (at_ < end_) {
      if (skip_blank()) continue;
      const char* begin = at_;
      take();
      tokens.push_back({string_view(begin, at_ - begin), line_});
    }
    tokens.push_back({"", line_});
    return tokens;
  }

 private:
  // The source is a string: at its end there is a zero that may be read.
  char after() const { return at_[1]; }

  bool skip_blank() {
    if (is_space(*at_)) {
      line_ += *at_++ == '\n';
      return true;
    }
    if (*at_ == '/' && after() == '/') {
      while (at_ < end_ && *at_ != '\n') ++at_;
      return true;
    }
    if (*at_ == '/' && after() == '*') {
      for (at_ += 2; at_ < end_ && !(*at_ == '*' && after() == '/'); ++at_) line_ += *at_ == '\n';
      at_ += 2;
      return true;
    }
    return false;
  }

  void take() {
    if (*at_ == '"') {
      take_text();
    } else if (is_digit(*at_)) {
      take_number();
    } else if (is_word(*at_)) {
      take_word();
    } else {
      ++at_;
    }
  }

  void take_text() {
    for (++at_; at_ < end_ && *at_ != '"'; ++at_) at_ += *at_ == '\\';
    ++at_;
  }

  // In "1e-5" the sign belongs to the number; in "0f3e800000-1" it does not.
  void take_number() {
    const bool decimal = !(*at_ == '0' && is_letter(after()));
    while (at_ < end_) {
      const bool exponent_sign =
          decimal && (*at_ == '-' || *at_ == '+') && (at_[-1] == 'e' || at_[-1] == 'E');
      if (!is_word(*at_) && !exponent_sign) break;
      ++at_;
    }
  }

  // A word that begins with a dot, a directive or an attribute, ends before the next one.
  void take_word() {
    const bool dotted = *at_ == '.';
    for (++at_; at_ < end_ && !(dotted && *at_ == '.');) {
      if (*at_ == ':' && after() == ':') {
        at_ += 2;
      } else if (is_word(*at_)) {
        ++at_;
      } else {
        break;
      }
    }
  }

  const char* at_;
  const char* end_;
  int line_ = 1;
};

}  // namespace

void fail_at(const Token& token, const string& what) {
  throw SyntaxError("PTX line " + std::to_string(token.line) + ": " + what + " at '" +
                    string(token.text) + "'");
}

std::vector<Token> tokens_of(const string& source) { return Lexer(source).run(); }

}  // namespace ptx
