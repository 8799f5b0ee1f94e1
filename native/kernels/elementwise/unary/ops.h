// The table of elementwise functions of one tensor: enum, TensorFlow.js name, JavaScript name, result class.
#pragma once

/// What a function takes and gives: Keep (f32, bf16, i32 -> the same), Float (anything -> f32, bf16 stays),
/// Test (f32, bf16, i32, bool -> bool).
#define EQ_UNARY_OPS(X)                            \
  X(Abs, "Abs", "abs", Keep)                       \
  X(Neg, "Neg", "neg", Keep)                       \
  X(Square, "Square", "square", Keep)              \
  X(Sign, "Sign", "sign", Keep)                    \
  X(Floor, "Floor", "floor", Keep)                 \
  X(Ceil, "Ceil", "ceil", Keep)                    \
  X(Round, "Round", "round", Keep)                 \
  X(Relu, "Relu", "relu", Keep)                    \
  X(Relu6, "Relu6", "relu6", Keep)                 \
  X(Step, "Step", "step", Keep)                    \
  X(Exp, "Exp", "exp", Float)                      \
  X(Expm1, "Expm1", "expm1", Float)                \
  X(Log, "Log", "log", Float)                      \
  X(Log1p, "Log1p", "log1p", Float)                \
  X(Sqrt, "Sqrt", "sqrt", Float)                   \
  X(Rsqrt, "Rsqrt", "rsqrt", Float)                \
  X(Reciprocal, "Reciprocal", "reciprocal", Float) \
  X(Sin, "Sin", "sin", Float)                      \
  X(Cos, "Cos", "cos", Float)                      \
  X(Tan, "Tan", "tan", Float)                      \
  X(Asin, "Asin", "asin", Float)                   \
  X(Acos, "Acos", "acos", Float)                   \
  X(Atan, "Atan", "atan", Float)                   \
  X(Sinh, "Sinh", "sinh", Float)                   \
  X(Cosh, "Cosh", "cosh", Float)                   \
  X(Asinh, "Asinh", "asinh", Float)                \
  X(Acosh, "Acosh", "acosh", Float)                \
  X(Atanh, "Atanh", "atanh", Float)                \
  X(Tanh, "Tanh", "tanh", Float)                   \
  X(Erf, "Erf", "erf", Float)                      \
  X(Sigmoid, "Sigmoid", "sigmoid", Float)          \
  X(Elu, "Elu", "elu", Float)                      \
  X(Selu, "Selu", "selu", Float)                   \
  X(Softplus, "Softplus", "softplus", Float)       \
  X(LeakyRelu, "LeakyRelu", "leakyRelu", Float)    \
  X(IsNan, "IsNan", "isNan", Test)                 \
  X(IsInf, "IsInf", "isInf", Test)                 \
  X(IsFinite, "IsFinite", "isFinite", Test)        \
  X(LogicalNot, "LogicalNot", "logicalNot", Test)
