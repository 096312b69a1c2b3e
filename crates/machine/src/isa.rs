//! Instruction sets by name, asked of the processor at run time. Names only: the proof that a kernel may run is the `cpu` crate's
//! ISA token, never this value.

use serde::{Deserialize, Serialize};

/// The widest instruction set with a name in hob, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isa {
    /// AVX-512 (F, BW, DQ, VL) with the VNNI dot products.
    #[serde(rename = "avx512-vnni")]
    Avx512Vnni,
    /// AVX-512 without VNNI.
    #[serde(rename = "avx512")]
    Avx512,
    /// AVX2 with FMA and F16C.
    #[serde(rename = "avx2")]
    Avx2,
    /// ARM's Advanced SIMD; every 64-bit ARM processor has it.
    #[serde(rename = "neon")]
    Neon,
    /// None of these.
    #[default]
    #[serde(rename = "scalar")]
    Scalar,
}

impl Isa {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512Vnni => "avx512-vnni",
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Neon => "neon",
            Isa::Scalar => "scalar",
        }
    }

    /// The best set that these features make up.
    pub(crate) fn best(features: &[&str]) -> Isa {
        let all = |names: &[&str]| names.iter().all(|n| features.contains(n));
        let avx2 = all(&["avx2", "fma", "f16c"]);
        let avx512 = avx2 && all(&["avx512f", "avx512bw", "avx512dq", "avx512vl"]);
        if avx512 && all(&["avx512vnni"]) {
            Isa::Avx512Vnni
        } else if avx512 {
            Isa::Avx512
        } else if avx2 {
            Isa::Avx2
        } else if all(&["neon"]) {
            Isa::Neon
        } else {
            Isa::Scalar
        }
    }
}

/// Lists the features of this processor that kernels may ask for.
#[cfg(target_arch = "x86_64")]
pub(crate) fn features() -> Vec<&'static str> {
    macro_rules! present {
        ($($name:tt),*) => { [$(($name, std::arch::is_x86_feature_detected!($name))),*] };
    }
    let asked = present!(
        "sse4.2",
        "avx",
        "avx2",
        "fma",
        "f16c",
        "avxvnni",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512vnni",
        "avx512vbmi",
        "avx512bf16",
        "avx512fp16"
    );
    asked.into_iter().filter_map(|(name, here)| here.then_some(name)).collect()
}

/// Lists the features of this processor that kernels may ask for.
#[cfg(target_arch = "aarch64")]
pub(crate) fn features() -> Vec<&'static str> {
    macro_rules! present {
        ($($name:tt),*) => { [$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    let asked = present!("neon", "fp16", "dotprod", "i8mm", "bf16", "sve", "sve2");
    asked.into_iter().filter_map(|(name, here)| here.then_some(name)).collect()
}

/// Lists the features of this processor that kernels may ask for: none are known on this architecture.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn features() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_set_needs_all_its_parts() {
        let avx2 = ["avx2", "fma", "f16c"];
        let wide = [&avx2[..], &["avx512f", "avx512bw", "avx512dq", "avx512vl"]].concat();
        assert_eq!(Isa::best(&[]), Isa::Scalar);
        assert_eq!(Isa::best(&["avx2"]), Isa::Scalar);
        assert_eq!(Isa::best(&avx2), Isa::Avx2);
        assert_eq!(Isa::best(&[&avx2[..], &["avx512vnni"]].concat()), Isa::Avx2);
        assert_eq!(Isa::best(&wide), Isa::Avx512);
        assert_eq!(Isa::best(&[&wide[..], &["avx512vnni"]].concat()), Isa::Avx512Vnni);
        assert_eq!(Isa::best(&["neon", "dotprod"]), Isa::Neon);
    }

    #[test]
    fn names_are_those_of_the_report() {
        for isa in [Isa::Avx512Vnni, Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Scalar] {
            assert_eq!(serde_json::to_string(&isa).unwrap(), format!("\"{}\"", isa.name()));
        }
    }
}
