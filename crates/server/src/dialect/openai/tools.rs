//! Tools and the choice among them, in OpenAI's form and in the older one of `functions`. A choice among allowed tools leaves the others out
//! of the prompt.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{out_of_range, unsupported};
use crate::error::ApiError;
use crate::prompt::ToolChoice;

/// Most tools of a request.
const MAX_TOOLS: usize = 1024;

/// The fields.
#[derive(Debug, Default, Deserialize)]
pub struct Tools {
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    functions: Option<Vec<Value>>,
    function_call: Option<Value>,
}

/// What may be called.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer {
    /// The tools; empty for none.
    pub tools: Vec<Value>,
    /// Whether they are called.
    pub choice: ToolChoice,
    /// Whether several are.
    pub parallel: bool,
    /// The request is of the older form, and so must the response be.
    pub legacy: bool,
}

impl Tools {
    /// What may be called.
    ///
    /// # Errors
    /// For tools that are no functions, and for a choice that cannot be made.
    pub fn offer(self) -> Result<Offer, ApiError> {
        let legacy = self.tools.is_none() && self.functions.is_some();
        let (field, tools, choice) = match legacy {
            false => ("tools", self.tools, self.tool_choice),
            true => {
                let wrap = |f| json!({"type": "function", "function": f});
                let functions = self.functions.into_iter().flatten();
                ("functions", Some(functions.map(wrap).collect()), self.function_call)
            }
        };
        let tools = tools.unwrap_or_default();
        if tools.len() > MAX_TOOLS {
            return Err(out_of_range(field, &format!("at most {MAX_TOOLS} tools"), tools.len()));
        }
        for (i, tool) in tools.iter().enumerate() {
            check(tool, &format!("{field}[{i}]"))?;
        }
        let parallel = !legacy && self.parallel_tool_calls.unwrap_or(true);
        let mut offer = Offer { tools, choice: ToolChoice::Auto, parallel, legacy };
        if let Some(choice) = choice {
            offer.choose(&choice, if legacy { "function_call" } else { "tool_choice" })?;
        }
        Ok(offer)
    }
}

impl Offer {
    /// The field that the tools came in.
    pub fn field(&self) -> &'static str {
        if self.legacy { "functions" } else { "tools" }
    }

    fn choose(&mut self, choice: &Value, path: &str) -> Result<(), ApiError> {
        let mode = choice.as_str().or_else(|| choice.pointer("/allowed_tools/mode")?.as_str());
        let named = ["/function/name", "/name"].iter().find_map(|at| choice.pointer(at)?.as_str());
        if let Some(allowed) = choice.pointer("/allowed_tools/tools") {
            self.allow(allowed, path)?;
        }
        self.choice = match (mode, named) {
            (Some("auto"), _) => ToolChoice::Auto,
            (Some("none"), _) => ToolChoice::None,
            (Some("required" | "any"), _) => ToolChoice::Required,
            (None, Some(name)) => ToolChoice::Named(name.to_owned()),
            _ => {
                let expected = "'none', 'auto', 'required', a function or allowed tools";
                return Err(out_of_range(path, expected, choice));
            }
        };
        match &self.choice {
            ToolChoice::Named(name) if !self.tools.iter().any(|t| is(t, name)) => {
                let message = format!("'{path}' names '{name}', which is not among the tools");
                Err(ApiError::field(path, message).with_code("invalid_value"))
            }
            ToolChoice::Required if self.tools.is_empty() => {
                let message = format!("'{path}' is only allowed when 'tools' are specified.");
                Err(ApiError::field(path, message).with_code("invalid_value"))
            }
            _ => Ok(()),
        }
    }

    /// Leaves out what is not among the allowed.
    fn allow(&mut self, allowed: &Value, path: &str) -> Result<(), ApiError> {
        let path = format!("{path}.allowed_tools.tools");
        let name = |tool: &Value| {
            let name = tool.pointer("/function/name").or_else(|| tool.get("name"));
            name.and_then(Value::as_str).map(str::to_owned)
        };
        let names = allowed.as_array().and_then(|all| all.iter().map(name).collect());
        let names: Vec<String> =
            names.ok_or_else(|| out_of_range(&path, "a list of functions", allowed))?;
        if let Some(name) = names.iter().find(|name| !self.tools.iter().any(|t| is(t, name))) {
            let message = format!("'{path}' names '{name}', which is not among the tools");
            return Err(ApiError::field(path, message).with_code("invalid_value"));
        }
        self.tools.retain(|tool| names.iter().any(|name| is(tool, name)));
        Ok(())
    }
}

fn is(tool: &Value, name: &str) -> bool {
    tool.pointer("/function/name").and_then(Value::as_str) == Some(name)
}

fn check(tool: &Value, path: &str) -> Result<(), ApiError> {
    if let Some(kind) = tool.get("type").and_then(Value::as_str)
        && kind != "function"
    {
        let message = format!("'{path}' is of type '{kind}', but only functions can be called");
        return Err(unsupported(&format!("{path}.type"), message));
    }
    let name = tool.pointer("/function/name").and_then(Value::as_str);
    match name.is_some_and(|name| !name.is_empty()) {
        true => Ok(()),
        false => {
            let path = format!("{path}.function.name");
            let message = format!("Missing required parameter: '{path}'.");
            Err(ApiError::field(path, message).with_code("missing_required_parameter"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(body: Value) -> Result<Offer, ApiError> {
        super::super::part::<Tools>(&body)?.offer()
    }

    fn tool(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
    }

    #[test]
    fn choices() {
        let tools = json!([tool("f"), tool("g")]);
        let allowed = json!({"type": "allowed_tools", "allowed_tools":
            {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}});
        for (choice, expected, count) in [
            (json!(null), ToolChoice::Auto, 2),
            (json!("auto"), ToolChoice::Auto, 2),
            (json!("none"), ToolChoice::None, 2),
            (json!("required"), ToolChoice::Required, 2),
            (
                json!({"type": "function", "function": {"name": "g"}}),
                ToolChoice::Named("g".into()),
                2,
            ),
            (allowed, ToolChoice::Required, 1),
        ] {
            let offer = offer(json!({"tools": tools, "tool_choice": choice})).unwrap();
            assert_eq!((offer.choice, offer.tools.len()), (expected, count), "{choice}");
            assert!(offer.parallel && !offer.legacy);
        }
    }

    #[test]
    fn functions_are_tools_of_the_older_form() {
        let function = json!({"name": "f", "parameters": {}});
        let offer =
            offer(json!({"functions": [function], "function_call": {"name": "f"}})).unwrap();
        assert_eq!(offer.tools, [json!({"type": "function", "function": function})]);
        assert_eq!(offer.choice, ToolChoice::Named("f".into()));
        assert!(offer.legacy && !offer.parallel);
    }

    #[test]
    fn nothing_is_offered_by_default() {
        let offer = offer(json!({"tools": [], "tool_choice": "auto"})).unwrap();
        assert!(offer.tools.is_empty() && !offer.legacy);
    }

    #[test]
    fn what_cannot_be_called_is_told() {
        let tools = json!([tool("f")]);
        for (body, param) in [
            (json!({"tools": {}}), "tools"),
            (json!({"tools": [{"type": "custom", "custom": {"name": "c"}}]}), "tools[0].type"),
            (json!({"tools": [{"type": "function"}]}), "tools[0].function.name"),
            (json!({"tools": ["f"]}), "tools[0].function.name"),
            (json!({"tools": tools, "tool_choice": "perhaps"}), "tool_choice"),
            (json!({"tools": tools, "tool_choice": 7}), "tool_choice"),
            (
                json!({"tools": tools, "tool_choice": {"type": "function", "function": {"name": "g"}}}),
                "tool_choice",
            ),
            (
                json!({"tools": tools, "tool_choice": {"type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"name": "g"}]}}}),
                "tool_choice.allowed_tools.tools",
            ),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"tools": tools, "parallel_tool_calls": "no"}), "parallel_tool_calls"),
            (json!({"functions": [{}]}), "functions[0].function.name"),
        ] {
            let error = offer(body.clone()).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{body}: {error}");
        }
    }
}
