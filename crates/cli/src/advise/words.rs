//! Advice in English and Chinese.

use hob_plan::advise::{Choice, Cost, Limit, Nothing, Offer, Os, Purpose, Reason};
use hob_plan::units;

use super::{Question, command};
use crate::doctor::lang::Lang;
use crate::grid::{self, indented, paragraph};
use crate::hardware::words as hardware;
use crate::out;

/// The list, with what was asked above and what was assumed below it.
pub fn answers(lang: Lang, question: &Question, list: &[Choice], width: usize) -> String {
    let mut text = paragraph(&asked(lang, question), width, 2);
    for (nth, choice) in list.iter().enumerate() {
        text.push('\n');
        text += &entry(lang, question, nth + 1, choice, width);
    }
    text.push('\n');
    for note in notes(lang, question, list) {
        text += &paragraph(&note, width, 2);
    }
    text
}

/// What excludes everything, and the nearest that would do.
pub fn nothing(lang: Lang, question: &Question, nothing: &Nothing, width: usize) -> String {
    let mut text = paragraph(&asked(lang, question), width, 2);
    text.push('\n');
    for (limit, choice) in &nothing.without {
        let what = limit_text(lang, *limit);
        let line = match lang {
            Lang::En => format!("{what} excludes everything; without it, the nearest is:"),
            Lang::Zh => format!("{what}排除了所有方案；去掉这个限制，最接近的是："),
        };
        text += &paragraph(&line, width, 2);
        text += &entry(lang, question, 1, choice, width);
        text.push('\n');
    }
    if nothing.without.is_empty() {
        let line = lang.pick(
            "No single constraint excludes everything: two or more of them do together.",
            "没有哪一个限制单独排除了所有方案，是几个限制合在一起造成的。",
        );
        text += &paragraph(line, width, 2);
    }
    text
}

/// Said where there is no answer.
pub fn none(lang: Lang) -> &'static str {
    lang.pick("nothing fits these constraints", "没有满足这些条件的方案")
}

/// Of a reason.
pub fn reason(lang: Lang, reason: Reason) -> &'static str {
    match reason {
        Reason::Quality => lang.pick("the best answers of these", "回答质量最好"),
        Reason::Speed => lang.pick("the fastest", "速度最快"),
        Reason::Price => lang.pick("the cheapest", "最便宜"),
        Reason::Watts => lang.pick("takes the least power", "功率最低"),
        Reason::Efficiency => lang.pick("the most tokens per joule", "每焦耳产出最多"),
        Reason::ManyUsers => lang.pick(
            "vLLM batches many users on such cards better",
            "多用户同时使用，这类显卡上 vLLM 批处理更好",
        ),
    }
}

/// Of a constraint, as the option is called.
pub fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Budget => "budget",
        Limit::Watts => "max-watts",
        Limit::Portable => "portable",
        Limit::Os => "os",
        Limit::Speed => "min-speed",
        Limit::Context => "context",
        Limit::Users => "users",
    }
}

fn limit_text(lang: Lang, limit: Limit) -> &'static str {
    match limit {
        Limit::Budget => lang.pick("The budget", "预算"),
        Limit::Watts => lang.pick("The limit of watts", "功率上限"),
        Limit::Portable => lang.pick("That it be portable", "便携要求"),
        Limit::Os => lang.pick("The operating system", "操作系统要求"),
        Limit::Speed => lang.pick("The least speed", "速度要求"),
        Limit::Context => lang.pick("The context", "上下文长度"),
        Limit::Users => lang.pick("The number of users", "用户数"),
    }
}

fn purpose(lang: Lang, purpose: Purpose) -> &'static str {
    match (lang, purpose) {
        (Lang::En, purpose) => purpose.name(),
        (_, Purpose::Chat) => "聊天",
        (_, Purpose::Code) => "写代码",
        (_, Purpose::Reasoning) => "推理",
        (_, Purpose::Embedding) => "向量嵌入",
        (_, Purpose::Rag) => "检索问答",
        (_, Purpose::LongContext) => "长上下文",
    }
}

/// What was asked.
fn asked(lang: Lang, question: &Question) -> String {
    let c = &question.constraints;
    let (what, context) = (purpose(lang, c.purpose), c.context.unwrap_or(c.purpose.context()));
    let speed = c.min_speed.unwrap_or(c.purpose.speed());
    let mut parts = match lang {
        Lang::En => vec![
            format!("For {what}: {context} tokens of context"),
            format!("{speed} tok/s or more"),
        ],
        Lang::Zh => {
            vec![format!("用途：{what}；上下文 {context} 词元"), format!("每秒至少 {speed} 词元")]
        }
    };
    let mut add = |en: String, zh: String| parts.push(if lang == Lang::En { en } else { zh });
    if c.users > 1 {
        add(format!("each of {} users", c.users), format!("{} 个用户同时使用", c.users));
    }
    if let Some(usd) = c.budget {
        add(format!("at most ${usd}"), format!("预算 {usd} 美元"));
    }
    if let Some(watts) = c.max_watts {
        add(format!("at most {watts} W"), format!("不超过 {watts} 瓦"));
    }
    if c.portable {
        add("portable".to_owned(), "便携".to_owned());
    }
    if let Some(os) = c.os {
        let name = match os {
            Os::Linux => "Linux",
            Os::Windows => "Windows",
            Os::Macos => "macOS",
        };
        add(name.to_owned(), name.to_owned());
    }
    if let Some(offer) = question.offers.first().filter(|_| question.given) {
        let name = hardware::name(lang, &offer.name);
        add(format!("on {name}"), format!("硬件：{name}"));
    }
    parts.join(lang.pick(", ", "，"))
}

/// One answer in a few lines.
fn entry(lang: Lang, question: &Question, nth: usize, choice: &Choice, width: usize) -> String {
    let (Some(offer), Some(candidate)) =
        (question.offers.get(choice.offer), question.candidates.get(choice.candidate))
    else {
        return String::new();
    };
    let model = format!("{} {}", candidate.name, choice.recipe);
    let title = match question.given {
        true => format!("{nth}. {model}"),
        false => format!("{nth}. {}: {model}", offer.name),
    };
    let mut text = paragraph(&title, width, 3);
    let mut say = |line: &str| text += &indented(line, width, 3);
    say(&figures(lang, offer, choice));
    let at = hardware::placement(lang, &choice.placement);
    let memory = out::memory_size(choice.memory);
    say(&match lang {
        Lang::En => format!("{at}; {memory} of memory"),
        Lang::Zh => format!("{at}；占用 {memory}"),
    });
    let reasons: Vec<&str> = choice.reasons.iter().map(|r| reason(lang, *r)).collect();
    if !reasons.is_empty() {
        say(&(reasons.join(lang.pick("; ", "；"))));
    }
    text + &grid::command(&command::of(question, choice), width, 3)
}

/// Speed, quality, price, watts.
fn figures(lang: Lang, offer: &Offer, choice: &Choice) -> String {
    let speed = &choice.speed;
    let unit = lang.pick("tok/s", "词元/秒");
    let [low, mid, high] = speed.texts();
    let mut parts = vec![format!("{mid} {unit} ({low}-{high})")];
    if choice.speed_all > speed.mid * 1.01 {
        let all = units::speed(choice.speed_all);
        parts.push(match lang {
            Lang::En => format!("{all} for all users"),
            Lang::Zh => format!("合计 {all}"),
        });
    }
    parts.push(format!("{} {:.1}", lang.pick("quality", "质量估计"), choice.quality));
    parts.extend(offer.cost.as_ref().map(|cost| price(lang, cost)));
    if let (Some(watts), Some(per_joule)) = (choice.watts, choice.tokens_per_joule) {
        parts.push(format!("{watts} W"));
        parts.push(format!("{per_joule:.2} {}", lang.pick("tok/J", "词元/焦")));
    }
    parts.join(lang.pick(", ", "，"))
}

fn price(lang: Lang, cost: &Cost) -> String {
    match (lang, cost.cny) {
        (Lang::Zh, Some(cny)) => format!("￥{cny}（{}）", cost.date),
        (Lang::Zh, None) => format!("${}（{}）", cost.usd, cost.date),
        (Lang::En, _) => format!("${} ({})", cost.usd, cost.date),
    }
}

/// What was assumed.
fn notes(lang: Lang, question: &Question, list: &[Choice]) -> Vec<String> {
    let of = |choice: &Choice| question.offers.get(choice.offer);
    let mut notes = vec![
        lang.pick(
            "Quality is an estimate from size, age and bits (a point more is like twice the parameters), not a measurement.",
            "质量是按参数量、发布时间和量化位数的估计（每多一分相当于参数翻倍），不是实测。",
        )
        .to_owned(),
    ];
    if question.given {
        let offer = list.first().and_then(of);
        notes.extend(offer.iter().flat_map(|offer| hardware::notes(lang, &offer.rig)));
    }
    let around = list.iter().filter_map(of).filter_map(|o| o.cost.as_ref()).map(|c| c.around).max();
    if let Some(usd) = around.filter(|usd| *usd > 0) {
        notes.push(match lang {
            Lang::En => format!(
                "Prices of cards hold a computer around them of up to ${usd}; watts are those of the card's data sheet and of the computer."
            ),
            Lang::Zh => format!("显卡的价格含整机其余部分（至多 {usd} 美元，为假设）；功率为显卡标称值加整机其余部分。"),
        });
    }
    if list.iter().filter_map(of).any(|offer| offer.rig.has_gpu()) {
        notes.push(hardware::gpu_speeds(lang));
    }
    notes
}
