//! What `hob fit` says, in both languages side by side, so that neither is forgotten. Deliberately absent: how it is laid out (`show`), and what is
//! said of hardware by other verbs too (`hardware::words`).

use hob_plan::fit::{Fit, Fits, Why};

use super::Report;
use crate::doctor::lang::Lang;
use crate::hardware::words as hardware;
use crate::out;

/// Of the columns; the last one is there where something was measured.
pub fn columns(lang: Lang) -> [&'static str; 9] {
    lang.pick(
        ["RECIPE", "FILE", "BITS", "MEMORY", "FITS", "CONTEXT", "DECODE", "PREFILL", "KL"],
        ["配方", "文件", "位数", "内存", "放得下", "上下文", "生成", "预填充", "KL"],
    )
}

/// Of the columns with the types of the tensors.
pub fn tensor_columns(lang: Lang) -> [&'static str; 5] {
    lang.pick(
        ["RECIPE", "FILE", "BITS", "IMATRIX", "TENSORS"],
        ["配方", "文件", "位数", "重要性矩阵", "张量"],
    )
}

/// Said of a recipe that cannot be made without an importance matrix.
pub fn needed(lang: Lang) -> &'static str {
    lang.pick("needed", "必需")
}

/// Whether it fits, in one word.
pub fn fits(lang: Lang, fits: Fits) -> &'static str {
    match (lang, fits) {
        (Lang::En, fits) => fits.name(),
        (Lang::Zh, Fits::Full) => "全部",
        (Lang::Zh, Fits::Partial) => "部分",
        (Lang::Zh, Fits::No) => "否",
    }
}

/// Which model it is.
pub fn heading(lang: Lang, report: &Report) -> String {
    let (name, model) = (&report.subject.name, &report.subject.model);
    let (all, active) = (model.parameters(), model.active_parameters());
    let (parameters, of_them) = (out::count(all), out::count(active));
    let mut text = match lang {
        Lang::En => format!("{name}: {}, {parameters} parameters", model.arch),
        Lang::Zh => format!("{name}：{}，{parameters} 参数", model.arch),
    };
    if active != all {
        text += &match lang {
            Lang::En => format!(", {of_them} of them active"),
            Lang::Zh => format!("，其中激活 {of_them}"),
        };
    }
    text
}

/// What it is to run on, and what was asked of it.
pub fn asked(lang: Lang, report: &Report) -> String {
    let (context, users) = (report.wishes.context, report.wishes.users);
    let (on, kv) = (hardware::name(lang, &report.rig.name), report.wishes.kv.name().to_uppercase());
    let each = match (users, lang) {
        (..=1, _) => String::new(),
        (_, Lang::En) => format!(" for each of {users} users"),
        (_, Lang::Zh) => format!("（{users} 个用户各有）"),
    };
    match lang {
        Lang::En => format!("On {on}: context {context}{each}, {kv} cache"),
        Lang::Zh => format!("硬件：{on}；上下文 {context} 词元{each}，{kv} 缓存"),
    }
}

/// Why the best is the best.
pub fn why(lang: Lang, why: Why) -> &'static str {
    let chinese = match why {
        Why::Whole => "在能全部放下且生成不低于 10 词元/秒的配方中，有用的位数最多",
        Why::Partly => "4 位及以上的配方都不能全部放下；在一部分由 CPU 计算的配方中，这个最快",
        Why::Slow => {
            "在能全部放下的配方中位数最多（不超过 Q4_K_M）；4 位及以上的配方都达不到 10 词元/秒"
        }
        Why::FewBits => {
            "在能全部放下且不低于 10 词元/秒的配方中位数最多；4 位及以上的配方都不能全部放下"
        }
        Why::SlowPartly => "4 位及以上的配方都不能全部放下；这是一部分由 CPU 计算的配方中最快的",
        Why::Last => "只有这类配方放得下；回答质量会很差",
    };
    lang.pick(why.text(), chinese)
}

/// Said where there is no best, with what the smallest recipe would need.
pub fn nothing(lang: Lang, report: &Report) -> String {
    let room = out::memory_size(report.rig.room());
    let mut text = match lang {
        Lang::En => format!("No recipe fits: {room} are free."),
        Lang::Zh => format!("没有配方放得下：可用 {room}。"),
    };
    if let Some(fit) = report.fits.iter().min_by_key(|fit| fit.memory.total()) {
        let (recipe, needed) = (fit.recipe.name, out::memory_size(fit.memory.total()));
        text += &match lang {
            Lang::En => format!(" Even {recipe} needs {needed}."),
            Lang::Zh => format!("即使 {recipe} 也需要 {needed}。"),
        };
    }
    text
}

/// What the columns mean; `intervals`: whether they stand in those of speeds.
pub fn legend(lang: Lang, report: &Report, intervals: bool) -> String {
    let text = lang.pick(
        "MEMORY: weights, cache at this context, buffers. CONTEXT: the longest that fits wholly.",
        "内存：权重、此上下文的缓存、缓冲区。上下文：能全部放下的最大长度。",
    );
    match report.fits.iter().any(|fit| fit.speeds.is_some()) {
        true => text.to_owned() + &legend_of_speeds(lang, report, intervals),
        false => text.to_owned(),
    }
}

fn legend_of_speeds(lang: Lang, report: &Report, intervals: bool) -> String {
    let (depth, prompt) = (report.wishes.depth, report.wishes.prompt);
    match lang {
        Lang::En => {
            let depth = match depth {
                0 => "at the start of a conversation".to_owned(),
                depth => format!("after {depth} tokens"),
            };
            let interval = match intervals {
                true => "in brackets",
                false => "that a wider terminal or --json shows",
            };
            format!(
                " DECODE, PREFILL: tokens per second, of one answer {depth} and of a prompt of {prompt} tokens; eight of ten measurements lie within \
                the interval {interval}."
            )
        }
        Lang::Zh => {
            let depth = match depth {
                0 => "对话开始时".to_owned(),
                depth => format!("已有 {depth} 词元时"),
            };
            let interval = match intervals {
                true => "括号里的区间",
                false => "更宽的终端或 --json 所示的区间",
            };
            format!(
                "生成、预填充：每秒词元数，前者为{depth}的单个回答，后者为 {prompt} 词元的提示词；十次实测中有八次落在{interval}内。"
            )
        }
    }
}

/// How the files are made.
pub fn made(lang: Lang, report: &Report) -> String {
    let header = out::file_size(report.subject.size.header());
    match lang {
        Lang::En => {
            let with = if report.importance { "with" } else { "without" };
            let counted = if report.subject.exact { "exact" } else { "estimated" };
            format!(
                "Files made {with} an importance matrix; each holds {header} of metadata ({counted})."
            )
        }
        Lang::Zh => {
            let with = if report.importance { "使用" } else { "不使用" };
            let counted = if report.subject.exact { "精确值" } else { "估计值" };
            format!("制作文件时{with}重要性矩阵；每个文件含 {header} 元数据（{counted}）。")
        }
    }
}

/// What was assumed.
pub fn notes(lang: Lang, report: &Report) -> Vec<String> {
    let mut notes = hardware::notes(lang, &report.rig);
    notes.extend(hardware::limit(lang, &report.rig));
    if report.rig.has_gpu() {
        notes.push(hardware::gpu_speeds(lang));
    }
    notes.extend(pulled(lang, report));
    notes
}

/// What hob itself takes where others would compute on a GPU.
fn pulled(lang: Lang, report: &Report) -> Option<String> {
    let Fit { recipe, speeds: Some(speeds), .. } = report.pulled.as_ref()? else { return None };
    let (recipe, [low, mid, high]) = (recipe.name, speeds.decode.texts());
    Some(match lang {
        Lang::En => {
            format!("So `hob pull` chooses for the CPU: {recipe}, {mid} tok/s ({low} to {high}).")
        }
        Lang::Zh => {
            format!("因此 `hob pull` 按 CPU 选择：{recipe}，{mid} 词元/秒（{low} 至 {high}）。")
        }
    })
}
