//! Pulls a model by name and says how long it took: `HOB_HOME=/some/folder cargo run --release -p hob-hub --example pull smollm2:135m`.

use std::time::Instant;

use hob_hub::{Hub, HubError, Progress};

fn main() -> Result<(), HubError> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "smollm2:135m".into());
    let start = Instant::now();
    let mut printed = 0;
    let model = Hub::open()?.pull(&name, &mut |p| match p {
        Progress::Bytes { done, total } | Progress::Verifying { done, total } => {
            let tenth = done * 10 / total.max(1);
            if tenth != printed {
                printed = tenth;
                println!("{:7.2} s  {p:?}", start.elapsed().as_secs_f64());
            }
        }
        Progress::Waiting => {}
        other => println!("{:7.2} s  {other:?}", start.elapsed().as_secs_f64()),
    });
    match model {
        Ok(model) => println!("{:7.2} s  {model:#?}", start.elapsed().as_secs_f64()),
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(1);
        }
    }
    Ok(())
}
