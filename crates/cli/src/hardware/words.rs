//! What is said of hardware and of where a model goes on it, in English and Chinese: the same for every verb that asks the planner. Deliberately
//! absent: what only one verb says, which stands beside it.

use hob_machine::Vendor;
use hob_machine::devices::Form;
use hob_plan::placement::{Place, Where};
use hob_plan::{Note, Rig, THIS_MACHINE};

use crate::doctor::lang::Lang;
use crate::doctor::words as doctor;
use crate::out;

/// What the hardware is called; devices have the same names in all languages.
pub fn name(lang: Lang, name: &str) -> String {
    match lang {
        Lang::En => name.to_owned(),
        Lang::Zh => name.replacen(THIS_MACHINE, "本机", 1),
    }
}

/// What is said wherever a speed on a GPU is shown.
pub fn gpu_speeds(lang: Lang) -> String {
    let text = lang.pick(
        "Speeds on GPUs are what programs of llama.cpp's kind reach there; hob itself computes on the CPU today.",
        "GPU 上的速度是 llama.cpp 一类程序能达到的；hob 自己目前在 CPU 上计算。",
    );
    text.to_owned()
}

/// What was assumed of a rig or left out of it.
pub fn notes(lang: Lang, rig: &Rig) -> Vec<String> {
    rig.notes.iter().map(|each| note(lang, each)).collect()
}

fn note(lang: Lang, note: &Note) -> String {
    if lang == Lang::En {
        return note.to_string();
    }
    match note {
        Note::OneComputer => "不支持同时规划多台电脑：这里按其中一台计算。".to_owned(),
        Note::Around { form, memory, channels, bandwidth } => {
            let what = match form {
                Form::Laptop => "笔记本",
                Form::Server => "服务器",
                Form::Desktop | Form::MiniPc | Form::Board => "台式机",
            };
            let (memory, speed) = (memory >> 30, bandwidth / 1e9);
            format!("假设装在一台{what}中：{memory} GB DDR5，{channels} 通道（{speed:.0} GB/s）。")
        }
        Note::Hindered { gpu, problem } => {
            let why = doctor::of_problem(gpu, problem, lang);
            format!("{why}因此未计入；详见 hob doctor。")
        }
        Note::Unknown(gpu) => {
            format!("{gpu} 不在设备表中，因此未计入；可用 --device 指明。")
        }
        Note::Unsized(gpu) => format!("{gpu} 不报告显存大小，因此未计入。"),
        Note::NotMeasured => "CPU 的速度以表格为准：这台机器尚未实测。".to_owned(),
    }
}

/// What a GPU may use of memory that it shares, and how to give it more.
pub fn limit(lang: Lang, rig: &Rig) -> Option<String> {
    let limit = out::memory_size(rig.shared_limit()?);
    let memory = out::memory_size(rig.host.memory);
    let more = (rig.host.memory / 100 * 92) >> 20;
    Some(match (rig.host.vendor, lang) {
        (Vendor::Apple, Lang::En) => format!(
            "The GPU may use {limit} of {memory}; `sudo sysctl iogpu.wired_limit_mb={more}` gives it more until the next start (ask with --gpu-memory)."
        ),
        (Vendor::Apple, Lang::Zh) => format!(
            "GPU 最多可用 {memory} 中的 {limit}；执行 `sudo sysctl iogpu.wired_limit_mb={more}` 可放宽，重启后失效（可用 --gpu-memory 查询）。"
        ),
        (_, Lang::En) => format!(
            "The GPU may use {limit} of {memory}; firmware or system may be set to give it more (ask with --gpu-memory)."
        ),
        (_, Lang::Zh) => format!(
            "GPU 最多可用 {memory} 中的 {limit}；可通过固件或系统设置放宽（可用 --gpu-memory 查询）。"
        ),
    })
}

/// Where a model goes.
pub fn placement(lang: Lang, at: &Where) -> String {
    if lang == Lang::En {
        return at.to_string();
    }
    match at {
        Where::All { layers, on } => format!("全部 {layers} 层在{}", place(on)),
        Where::Experts { layers, on } => {
            format!("{layers} 层的专家在 CPU，其余在{}", place(on))
        }
        Where::Layers { there, of, on, experts } => {
            let too = if *experts { "和全部专家" } else { "" };
            format!("{of} 层中 {there} 层在{}，{} 层{too}在 CPU", place(on), of - there)
        }
        Where::Cores { limited: None } => "在 CPU 上".to_owned(),
        Where::Cores { limited: Some((gpu, limit)) } => {
            let gpu = gpu.as_deref().unwrap_or("GPU");
            format!("在 CPU 上：{gpu} 只能使用 {} 内存", out::memory_size(*limit))
        }
        Where::Sliced { cards: 1, name } => format!("全部在 {name}"),
        Where::Sliced { cards, name } => format!("每层切成 {cards} 份，分在 {cards} 张 {name}"),
    }
}

fn place(at: &Place) -> String {
    match at {
        Place::One(name) => format!(" {name}"),
        Place::Alike(n, name) => format!(" {n} 张 {name}"),
        Place::Several(gpus) => {
            let each: Vec<String> = gpus.iter().map(|(n, name)| format!("{name} {n} 层")).collect();
            format!(" {} 张显卡（{}）", gpus.len(), each.join("，"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hob_machine::Problem;

    #[test]
    fn every_note_is_said_in_both_languages() {
        let gpu = || "Radeon 780M".to_owned();
        let around = |form| Note::Around { form, memory: 64 << 30, channels: 2, bandwidth: 80e9 };
        let all = [
            Note::OneComputer,
            around(Form::Desktop),
            around(Form::Laptop),
            around(Form::Server),
            Note::Hindered { gpu: gpu(), problem: Problem::NoDriver },
            Note::Unknown(gpu()),
            Note::Unsized(gpu()),
            Note::NotMeasured,
        ];
        for each in all {
            let (english, chinese) = (note(Lang::En, &each), note(Lang::Zh, &each));
            assert!(english.is_ascii() && english.ends_with('.'), "{english}");
            assert!(!chinese.is_ascii() && chinese.ends_with('。'), "{chinese}");
        }
        assert_eq!(
            note(Lang::En, &around(Form::Desktop)),
            "Assumed around it: a desktop with 64 GB of DDR5 in 2 channels (80 GB/s)."
        );
    }

    #[test]
    fn this_machine_has_a_name_in_each_language() {
        let here = format!("{THIS_MACHINE} (AMD EPYC 9554)");
        assert_eq!(name(Lang::En, &here), "this machine (AMD EPYC 9554)");
        assert_eq!(name(Lang::Zh, &here), "本机 (AMD EPYC 9554)");
        assert_eq!(name(Lang::Zh, "GeForce RTX 4070"), "GeForce RTX 4070");
    }
}
