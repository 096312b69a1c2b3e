//! The command that does what was advised.

use hob_plan::advise::{Choice, Engine, Purpose};

use super::Question;

/// What runs it, in one word.
pub fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Hob => "hob",
        Engine::LlamaCpp => "llama.cpp",
        Engine::Vllm { .. } => "vllm",
    }
}

/// The command line.
pub fn of(question: &Question, choice: &Choice) -> String {
    let Some(candidate) = question.candidates.get(choice.candidate) else { return String::new() };
    let users = question.constraints.users;
    let model = format!("{}-{}", candidate.name, choice.recipe.to_lowercase());
    match choice.engine {
        Engine::Hob if question.constraints.purpose == Purpose::Embedding => {
            format!("hob embed {model} \"...\"")
        }
        Engine::Hob if users > 1 => {
            format!("hob pull {model} && hob serve --context {}", choice.context)
        }
        Engine::Hob => format!("hob run {model} --context {}", choice.context),
        Engine::Vllm { parallel } => {
            let parallel = match parallel {
                1 => String::new(),
                n => format!(" --tensor-parallel-size {n}"),
            };
            let fp8 = if choice.recipe == "FP8" { " --quantization fp8" } else { "" };
            format!(
                "vllm serve {}{parallel}{fp8} --max-model-len {}",
                candidate.repository, choice.context
            )
        }
        Engine::LlamaCpp => {
            let source = match &candidate.gguf {
                Some(repository) => format!("-hf {repository}:{}", choice.recipe),
                None => format!("-m {}-{}.gguf", candidate.name.replace(':', "-"), choice.recipe),
            };
            llama_server(question, choice, &source)
        }
    }
}

fn llama_server(question: &Question, choice: &Choice, source: &str) -> String {
    let users = question.constraints.users;
    let mut command = format!("llama-server {source} -c {}", choice.context * users);
    if users > 1 {
        command += &format!(" -np {users}");
    }
    // The output counts as a layer there.
    let layers = choice.layers - choice.cores.blocks.min(choice.layers);
    command += &format!(" -ngl {}", if choice.cores.blocks == 0 { 99 } else { layers + 1 });
    if choice.cores.blocks == 0 && choice.cores.experts > 0 {
        command += &format!(" --n-cpu-moe {}", choice.cores.experts);
    }
    if question.constraints.purpose == Purpose::Embedding {
        command += " --embedding";
    }
    command
}
