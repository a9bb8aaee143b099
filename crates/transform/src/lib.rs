//! One SQL SELECT over each batch: projection, filter, casts, expressions.
