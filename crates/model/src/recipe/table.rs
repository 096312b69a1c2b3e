//! The recipes themselves. Facts: `llama_tensor_get_type_impl` and `tensor_type_fallback` of llama.cpp's llama-quant.cpp,
//! written as lists in which the first rule that fits decides; numbers of `general.file_type`: `llama_ftype` of its llama.h.
//! `_L` and `_XL` are not llama.cpp's but the hubs': the mix of that name with embedding and output in Q8_0.

use hob_quant::GgmlType::{self, *};

use super::Part::{self, *};
use super::When::{self, *};
use super::{Recipe, Rule};

/// Other names of recipes.
pub(super) const ALIASES: &[(&str, &str)] =
    &[("Q3_K", "Q3_K_M"), ("Q4_K", "Q4_K_M"), ("Q5_K", "Q5_K_M"), ("MXFP4", "MXFP4_MOE")];

/// The file type in which even Q2_K needs an importance matrix.
pub(super) const Q2_K_S: u32 = 21;

/// What stands in for a type of long blocks where rows are not a whole number of them.
pub(super) fn substitute(ty: GgmlType) -> GgmlType {
    match ty {
        IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | IQ4_XS => IQ4_NL,
        Q2_K | Q3_K | TQ1_0 | TQ2_0 | Q2_0 => Q4_0,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        other => other,
    }
}

const fn rule(part: Part, when: &'static [When], ty: GgmlType) -> Rule {
    Rule { part, when, ty }
}

const fn recipe(
    name: &'static str,
    file_type: u32,
    base: GgmlType,
    rules: &'static [&'static [Rule]],
) -> Recipe {
    Recipe { name, file_type, base, rules, embed_and_output: None }
}

/// The same mix with embedding and output in Q8_0.
const fn large(
    name: &'static str,
    file_type: u32,
    base: GgmlType,
    rules: &'static [&'static [Rule]],
) -> Recipe {
    Recipe { embed_and_output: Some(Q8_0), ..recipe(name, file_type, base, rules) }
}

/// Every recipe, from large to small by and large.
pub(super) const RECIPES: &[Recipe] = &[
    recipe("F32", 0, F32, &[]),
    recipe("F16", 1, F16, &[]),
    recipe("BF16", 32, BF16, &[]),
    recipe("Q8_0", 7, Q8_0, &[EIGHT]),
    large("Q6_K_L", 18, Q6_K, &[OUTPUT, EIGHT]),
    recipe("Q6_K", 18, Q6_K, &[OUTPUT, EIGHT]),
    recipe("Q5_1", 9, Q5_1, &[OUTPUT, EIGHT]),
    large("Q5_K_L", 17, Q5_K, &[OUTPUT, EIGHT, MEDIUM_5]),
    recipe("Q5_K_M", 17, Q5_K, &[OUTPUT, EIGHT, MEDIUM_5]),
    recipe("Q5_K_S", 16, Q5_K, &[OUTPUT, EIGHT]),
    recipe("Q5_0", 8, Q5_0, &[OUTPUT, EIGHT, DOWN_5_0]),
    large("Q4_K_L", 15, Q4_K, &[OUTPUT, EIGHT, EIGHT_OUT, MEDIUM_4]),
    recipe("Q4_1", 3, Q4_1, &[OUTPUT, EIGHT]),
    recipe("Q4_K_M", 15, Q4_K, &[OUTPUT, EIGHT, EIGHT_OUT, MEDIUM_4]),
    recipe("Q4_K_S", 14, Q4_K, &[OUTPUT, EIGHT, EIGHT_OUT, SMALL_4]),
    recipe("Q4_0", 2, Q4_0, &[OUTPUT, EIGHT, DOWN_4_0]),
    recipe("IQ4_NL", 25, IQ4_NL, &[OUTPUT, EIGHT, EIGHT_OUT, NONLINEAR_4]),
    recipe("MXFP4_MOE", 38, MXFP4, &[EXPERTS_ONLY]),
    recipe("IQ4_XS", 30, IQ4_XS, &[OUTPUT, EIGHT, EIGHT_OUT, NONLINEAR_4]),
    large("Q3_K_XL", 13, Q3_K, &[OUTPUT, EIGHT, LARGE_3]),
    recipe("Q3_K_L", 13, Q3_K, &[OUTPUT, EIGHT, LARGE_3]),
    recipe("Q3_K_M", 12, Q3_K, &[OUTPUT, EIGHT, EIGHT_OUT, MEDIUM_3]),
    recipe("IQ3_M", 27, IQ3_S, &[OUTPUT, EIGHT, EIGHT_OUT, GRID_3_M]),
    recipe("IQ3_S", 26, IQ3_S, &[OUTPUT, EIGHT, EIGHT_OUT, GRID_3_V]),
    recipe("Q3_K_S", 11, Q3_K, &[OUTPUT, EIGHT, EIGHT_OUT, VALUES_70B]),
    recipe("IQ3_XS", 22, IQ3_S, &[OUTPUT, EIGHT, EIGHT_OUT, GRID_3_V, GRID_3_XS]),
    recipe("IQ3_XXS", 23, IQ3_XXS, &[OUTPUT_5, EMBED_3, EIGHT, EIGHT_OUT, GRID_3_XXS]),
    large("Q2_K_L", 10, Q2_K, &[OUTPUT, EIGHT, EIGHT_OUT, MIX_2]),
    recipe("Q2_K", 10, Q2_K, &[OUTPUT, EIGHT, EIGHT_OUT, MIX_2]),
    recipe("Q2_K_S", Q2_K_S, Q2_K, &[OUTPUT, EIGHT, SMALL_2]),
    recipe("IQ2_M", 29, IQ2_S, &[OUTPUT_5, EMBED_3, GRID_WIDE, GRID_2_S]),
    recipe("IQ2_S", 28, IQ2_XS, &[OUTPUT_5, EMBED_3, GRID_WIDE, GRID_2_S]),
    recipe("IQ2_XS", 20, IQ2_XS, &[OUTPUT_5, EMBED_2, GRID_WIDE, GRID_2_XS]),
    recipe("IQ2_XXS", 19, IQ2_XXS, &[OUTPUT_5, EMBED_2, GRID_WIDE, GRID_2_XS]),
    recipe("IQ1_M", 31, IQ1_M, &[OUTPUT_5, EMBED_2, GRID_WIDE, GRID_2_XS, GRID_1]),
    recipe("IQ1_S", 24, IQ1_S, &[OUTPUT_5, EMBED_2, GRID_WIDE, GRID_2_XS, GRID_1]),
];

/// The unembedding in six bits.
const OUTPUT: &[Rule] = &[rule(Output, &[], Q6_K)];

/// The unembedding of the smallest files; in eight bits where the other matrices have substitutes.
const OUTPUT_5: &[Rule] = &[rule(Output, &[Ragged], Q8_0), rule(Output, &[], Q5_K)];

const EMBED_3: &[Rule] = &[rule(TokenEmbd, &[], IQ3_S)];
const EMBED_2: &[Rule] = &[rule(TokenEmbd, &[], Q2_K)];

/// Eight experts dwarf the attention, which then costs little.
const EIGHT: &[Rule] = &[rule(AttnV, &[EightExperts], Q8_0), rule(AttnK, &[EightExperts], Q8_0)];
const EIGHT_OUT: &[Rule] = &[rule(AttnOutput, &[EightExperts], Q5_K)];

/// Values of the 70B shape, where the mix alone would give three or four bits.
const VALUES_70B: &[Rule] = &[rule(AttnV, &[Size70B], Q5_K)];

const MEDIUM_5: &[Rule] = &[rule(AttnV, &[MoreBits], Q6_K), rule(FfnDown, &[MoreBits], Q6_K)];

const MEDIUM_4: &[Rule] = &[
    rule(AttnV, &[MoreBits], Q6_K),
    rule(AttnV, &[Size70B], Q5_K),
    rule(FfnDown, &[MoreBits], Q6_K),
];

const SMALL_4: &[Rule] = &[
    rule(AttnV, &[First(4)], Q5_K),
    rule(AttnV, &[Size70B], Q5_K),
    rule(FfnDown, &[FirstPart(8)], Q5_K),
];

const DOWN_5_0: &[Rule] = &[rule(FfnDown, &[Importance, FirstPart(8)], Q5_1)];
const DOWN_4_0: &[Rule] = &[rule(FfnDown, &[Importance, FirstPart(8)], Q4_1)];

const NONLINEAR_4: &[Rule] =
    &[rule(AttnV, &[WideGroups], Q5_K), rule(FfnDown, &[NoImportance, FirstPart(8)], Q5_K)];

/// Experts in MXFP4, all else in Q8_0.
const EXPERTS_ONLY: &[Rule] = &[
    rule(Output, &[], Q8_0),
    rule(TokenEmbd, &[], Q8_0),
    rule(AttnQ, &[], Q8_0),
    rule(AttnK, &[], Q8_0),
    rule(AttnV, &[], Q8_0),
    rule(AttnOutput, &[], Q8_0),
    rule(FfnGate, &[Stacked], MXFP4),
    rule(FfnGate, &[], Q8_0),
    rule(FfnUp, &[Stacked], MXFP4),
    rule(FfnUp, &[], Q8_0),
    rule(FfnDown, &[Stacked], MXFP4),
    rule(FfnDown, &[], Q8_0),
    rule(Other, &[Stacked], MXFP4),
    rule(Other, &[], Q8_0),
];

const LARGE_3: &[Rule] = &[
    rule(AttnV, &[], Q5_K),
    rule(FfnDown, &[], Q5_K),
    rule(AttnOutput, &[EightExperts], Q3_K),
    rule(AttnOutput, &[], Q5_K),
];

const MEDIUM_3: &[Rule] = &[
    rule(AttnV, &[First(2)], Q5_K),
    rule(AttnV, &[Size70B], Q5_K),
    rule(AttnV, &[], Q4_K),
    rule(FfnDown, &[FirstPart(16)], Q5_K),
    rule(FfnDown, &[], Q4_K),
    rule(AttnOutput, &[], Q4_K),
];

const GRID_3_M: &[Rule] = &[
    rule(AttnV, &[Size70B], Q5_K),
    rule(AttnV, &[], Q4_K),
    rule(FfnDown, &[FirstPart(8)], Q4_K),
    rule(FfnDown, &[EightExperts, MoreBits], Q4_K),
    rule(AttnOutput, &[], Q4_K),
];

const GRID_3_V: &[Rule] =
    &[rule(AttnV, &[WideGroups, Size70B], Q5_K), rule(AttnV, &[WideGroups], Q4_K)];

const GRID_3_XS: &[Rule] = &[
    rule(AttnQ, &[], IQ3_XXS),
    rule(AttnK, &[], IQ3_XXS),
    rule(FfnGate, &[Middle], IQ3_XXS),
    rule(FfnUp, &[Middle], IQ3_XXS),
];

const GRID_3_XXS: &[Rule] = &[
    rule(AttnV, &[WideGroups, Size70B], Q5_K),
    rule(AttnV, &[WideGroups], Q4_K),
    rule(AttnV, &[NoImportance], IQ3_S),
    rule(AttnQ, &[], IQ2_S),
    rule(AttnK, &[], IQ2_S),
    rule(FfnDown, &[NoImportance, FirstPart(8)], Q4_K),
    rule(FfnDown, &[NoImportance], Q3_K),
    rule(AttnOutput, &[], IQ3_S),
];

const MIX_2: &[Rule] = &[
    rule(AttnV, &[Size70B], Q5_K),
    rule(AttnV, &[WideGroups], Q4_K),
    rule(AttnV, &[], Q3_K),
    rule(FfnDown, &[], Q3_K),
    rule(AttnOutput, &[], Q3_K),
];

const SMALL_2: &[Rule] = &[
    rule(AttnV, &[WideGroups, Size70B], Q5_K),
    rule(AttnV, &[WideGroups], Q4_K),
    rule(FfnDown, &[FirstPart(8)], Q4_K),
];

/// What all mixes of one and two bits share.
const GRID_WIDE: &[Rule] = &[
    rule(AttnV, &[WideGroups], Q4_K),
    rule(AttnV, &[ManyExperts], Q4_K),
    rule(AttnK, &[EightExperts], Q4_K),
    rule(AttnOutput, &[EightExperts], Q5_K),
];

const GRID_2_S: &[Rule] = &[
    rule(AttnV, &[], IQ3_S),
    rule(FfnDown, &[FirstEighthCounted], IQ3_S),
    rule(AttnOutput, &[], IQ3_S),
];

const GRID_2_XS: &[Rule] = &[rule(AttnV, &[], Q2_K), rule(FfnDown, &[FirstEighthCounted], Q2_K)];

const GRID_1: &[Rule] = &[rule(AttnOutput, &[], IQ2_XXS)];
