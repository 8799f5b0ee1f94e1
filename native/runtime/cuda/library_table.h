// The functions of a library that is opened at run time, as a table made from one list of them:
//   #define LIST(F) F(member, symbol, result, parameters) ...
#pragma once

#define EQ_LIBRARY_MEMBER(member, symbol, result, parameters) result(*member) parameters = nullptr;
#define EQ_LIBRARY_FIND(member, symbol, result, parameters) complete = find(member, #symbol) && complete;

/// struct Api: a pointer for each function, and load(), which fills it by `find(function, name)`; false where one is
/// missing.
#define EQ_LIBRARY_TABLE(LIST) \
  struct Api {                 \
    LIST(EQ_LIBRARY_MEMBER)    \
    template <class Find>      \
    bool load(Find find) {     \
      bool complete = true;    \
      LIST(EQ_LIBRARY_FIND)    \
      return complete;         \
    }                          \
  }
