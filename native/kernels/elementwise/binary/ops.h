// The table of elementwise functions of two tensors: enum, TensorFlow.js name, JavaScript name, result class.
#pragma once

/// Numeric: f32, bf16, i32 or bool in, the promoted type out. Real: floats only. Test: anything in, bool out.
#define EQ_BINARY_OPS(X)                                                  \
  X(Add, "Add", "add", Numeric)                                           \
  X(Sub, "Sub", "sub", Numeric)                                           \
  X(Multiply, "Multiply", "multiply", Numeric)                            \
  X(RealDiv, "RealDiv", "realDiv", Numeric)                               \
  X(FloorDiv, "FloorDiv", "floorDiv", Numeric)                            \
  X(Mod, "Mod", "mod", Numeric)                                           \
  X(Pow, "Pow", "pow", Numeric)                                           \
  X(Maximum, "Maximum", "maximum", Numeric)                               \
  X(Minimum, "Minimum", "minimum", Numeric)                               \
  X(SquaredDifference, "SquaredDifference", "squaredDifference", Numeric) \
  X(Atan2, "Atan2", "atan2", Real)                                        \
  X(Prelu, "Prelu", "prelu", Real)                                        \
  X(EluGrad, "EluGrad", "eluGrad", Real)                                  \
  X(Equal, "Equal", "equal", Test)                                        \
  X(NotEqual, "NotEqual", "notEqual", Test)                               \
  X(Less, "Less", "less", Test)                                           \
  X(LessEqual, "LessEqual", "lessEqual", Test)                            \
  X(Greater, "Greater", "greater", Test)                                  \
  X(GreaterEqual, "GreaterEqual", "greaterEqual", Test)                   \
  X(LogicalAnd, "LogicalAnd", "logicalAnd", Test)                         \
  X(LogicalOr, "LogicalOr", "logicalOr", Test)
