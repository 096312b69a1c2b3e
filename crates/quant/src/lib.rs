//! hob-quant
