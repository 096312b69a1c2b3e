//! Compiling and running a template with one operator replaced.
//! The engine's fuel bounds work and memory with one gap: `list + list` is lazy, and thirty doublings later it walks over all items
//! uncharged. So `+` becomes a call of a function that pays first. This needs the engine's `unstable_machinery`, hence its exact version.

use std::collections::BTreeMap;

use minijinja::machinery::{
    CodeGenerator, Instruction, Instructions, eval, make_string_output, parse,
};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};

/// The name of the function; no identifier of a template can be this.
const ADD: &str = "+";

/// Installs what compiled programs call.
pub(super) fn install(env: &mut Environment<'_>) {
    env.add_function(ADD, add);
}

/// A compiled template.
pub(super) struct Program<'s> {
    main: Instructions<'s>,
    blocks: BTreeMap<&'s str, Instructions<'s>>,
}

impl<'s> Program<'s> {
    /// Compiles with the whitespace rules of chat templates: a block's line leaves nothing behind.
    pub(super) fn compile(name: &'s str, source: &'s str) -> Result<Self, Error> {
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        let tree = parse(source, name, syntax)?;
        let mut generator = CodeGenerator::new(name, source);
        generator.compile_stmt(&tree);
        let (mut main, mut blocks) = generator.finish();
        replace_add(&mut main);
        blocks.values_mut().for_each(replace_add);
        Ok(Self { main, blocks })
    }

    /// Runs with the environment's fuel.
    pub(super) fn run<'e: 's>(
        &self,
        env: &'e Environment<'s>,
        context: Value,
    ) -> Result<String, Error> {
        let mut text = String::new();
        let mut output = make_string_output(&mut text);
        eval(env, &self.main, context, &self.blocks, &mut output, AutoEscape::None)?;
        Ok(text)
    }
}

fn replace_add(instructions: &mut Instructions<'_>) {
    let mut at = 0;
    while let Some(instruction) = instructions.get_mut(at) {
        if matches!(instruction, Instruction::Add) {
            *instruction = Instruction::CallFunction(ADD, Some(2));
        }
        at += 1;
    }
}

/// Python's `+` on numbers, strings and lists.
fn add(state: &State<'_, '_>, left: Value, right: Value) -> Result<Value, Error> {
    let is_list = |v: &Value| matches!(v.kind(), ValueKind::Seq | ValueKind::Iterable);
    if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
        state.consume_fuel((a.len() + b.len()) as u64 / 64)?;
        return Ok(Value::from([a, b].concat()));
    }
    if is_list(&left) && is_list(&right) {
        let items = left.len().unwrap_or(0).saturating_add(right.len().unwrap_or(0));
        state.consume_fuel(items as u64)?;
        return Ok(left.try_iter()?.chain(right.try_iter()?).collect());
    }
    let number = |v: &Value| matches!(v.kind(), ValueKind::Number | ValueKind::Bool);
    let sum = match (i64::try_from(left.clone()), i64::try_from(right.clone())) {
        (Ok(a), Ok(b)) if number(&left) && number(&right) => a.checked_add(b).map(Value::from),
        _ if number(&left) && number(&right) => {
            Some(Value::from(f64::try_from(left.clone())? + f64::try_from(right.clone())?))
        }
        _ => None,
    };
    sum.ok_or_else(|| {
        let message = format!("unable to add {} and {}", left.kind(), right.kind());
        Error::new(ErrorKind::InvalidOperation, message)
    })
}
