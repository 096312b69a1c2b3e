//! What form an answer must have: OpenAI's `response_format`, and the ways in which vLLM, llama.cpp and SGLang ask for grammars. One of them
//! counts; two are an error.

use serde::Deserialize;
use serde_json::Value;

use super::{out_of_range, unsupported};
use crate::answer::Form;
use crate::error::ApiError;

/// Most texts of which one is to be chosen.
const MAX_CHOICES: usize = 1024;

/// The fields.
#[derive(Debug, Default, Deserialize)]
pub struct Forms {
    response_format: Option<Format>,
    structured_outputs: Option<Structured>,
    guided_json: Option<Value>,
    guided_regex: Option<String>,
    guided_choice: Option<Vec<String>>,
    guided_grammar: Option<String>,
    json_schema: Option<Value>,
    regex: Option<String>,
    grammar: Option<String>,
}

/// `response_format`; llama.cpp puts a schema beside the type.
#[derive(Debug, Deserialize)]
struct Format {
    r#type: String,
    json_schema: Option<Named>,
    schema: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Named {
    schema: Option<Value>,
}

/// `structured_outputs`.
#[derive(Debug, Default, Deserialize)]
struct Structured {
    json: Option<Value>,
    json_object: Option<bool>,
    regex: Option<String>,
    choice: Option<Vec<String>>,
    grammar: Option<String>,
}

impl Forms {
    /// What is asked for, and the field that asks for it.
    ///
    /// # Errors
    /// For what is no schema, and for two forms at once.
    pub fn form(self) -> Result<(Form, &'static str), ApiError> {
        let inner = self.structured_outputs.unwrap_or_default();
        let object = inner.json_object.filter(|&yes| yes).map(|_| Form::Json);
        let all = [
            ("response_format", self.response_format.map(Format::form).transpose()?),
            ("structured_outputs.json", schema("structured_outputs.json", inner.json)?),
            ("structured_outputs.json_object", object),
            ("structured_outputs.regex", inner.regex.map(Form::Regex)),
            ("structured_outputs.choice", choice("structured_outputs.choice", inner.choice)?),
            ("structured_outputs.grammar", inner.grammar.map(Form::Grammar)),
            ("guided_json", schema("guided_json", self.guided_json)?),
            ("guided_regex", self.guided_regex.map(Form::Regex)),
            ("guided_choice", choice("guided_choice", self.guided_choice)?),
            ("guided_grammar", self.guided_grammar.map(Form::Grammar)),
            ("json_schema", schema("json_schema", self.json_schema)?),
            ("regex", self.regex.map(Form::Regex)),
            ("grammar", self.grammar.map(Form::Grammar)),
        ];
        let asked = all.into_iter().filter_map(|(field, form)| Some((form?, field)));
        let mut asked = asked.filter(|(form, _)| *form != Form::Free);
        match (asked.next(), asked.next()) {
            (form, None) => Ok(form.unwrap_or((Form::Free, "response_format"))),
            (_, Some((_, second))) => {
                let message = format!("'{second}' asks for a second form of one answer; give one");
                Err(ApiError::field(second, message).with_code("invalid_value"))
            }
        }
    }
}

impl Format {
    fn form(self) -> Result<Form, ApiError> {
        match self.r#type.as_str() {
            "text" => Ok(Form::Free),
            "json_object" => match self.schema {
                Some(value) => of_schema("response_format.schema", value),
                None => Ok(Form::Json),
            },
            "json_schema" => {
                let path = "response_format.json_schema";
                let missing =
                    || ApiError::field(path, format!("Missing required parameter: '{path}'."));
                match self.json_schema.ok_or_else(missing)?.schema {
                    Some(value) => of_schema("response_format.json_schema.schema", value),
                    None => Ok(Form::Json),
                }
            }
            other => {
                let path = "response_format.type";
                Err(out_of_range(path, "'text', 'json_object' or 'json_schema'", other))
            }
        }
    }
}

/// A JSON Schema, if there is one.
fn schema(path: &str, value: Option<Value>) -> Result<Option<Form>, ApiError> {
    value.map(|value| of_schema(path, value)).transpose()
}

/// A JSON Schema, as JSON or as its text.
fn of_schema(path: &str, value: Value) -> Result<Form, ApiError> {
    match value {
        value @ (Value::Object(_) | Value::Bool(_)) => Ok(Form::Schema(value)),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(value @ Value::Object(_)) => Ok(Form::Schema(value)),
            _ => Err(out_of_range(path, "a JSON Schema", "another text")),
        },
        other => Err(out_of_range(path, "a JSON Schema", other)),
    }
}

/// One of these texts, if there are any.
fn choice(path: &str, texts: Option<Vec<String>>) -> Result<Option<Form>, ApiError> {
    let Some(texts) = texts else { return Ok(None) };
    if texts.is_empty() || texts.len() > MAX_CHOICES {
        return Err(unsupported(path, format!("'{path}' must have 1 to {MAX_CHOICES} texts")));
    }
    let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
    Ok(Some(Form::Regex(format!("({})", texts.join("|")))))
}

/// A regular expression that matches this text alone.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$#&-~/".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn form(body: Value) -> Result<Form, ApiError> {
        Ok(super::super::part::<Forms>(&body)?.form()?.0)
    }

    #[test]
    fn forms_have_many_names() {
        let any = json!({"type": "object"});
        let schema = Form::Schema(any.clone());
        let named = json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": any}});
        for (body, expected) in [
            (json!({}), Form::Free),
            (json!({"response_format": null, "regex": null}), Form::Free),
            (json!({"response_format": {"type": "text"}}), Form::Free),
            (json!({"response_format": {"type": "json_object"}}), Form::Json),
            (json!({"response_format": {"type": "json_object", "schema": any}}), schema.clone()),
            (json!({"response_format": named}), schema.clone()),
            (json!({"guided_json": any}), schema.clone()),
            (json!({"guided_json": any.to_string()}), schema.clone()),
            (json!({"structured_outputs": {"json": any}}), schema.clone()),
            (json!({"structured_outputs": {"json_object": true}}), Form::Json),
            (json!({"structured_outputs": {"regex": "a+"}}), Form::Regex("a+".into())),
            (json!({"json_schema": any}), schema),
            (json!({"regex": "a+"}), Form::Regex("a+".into())),
            (json!({"guided_choice": ["a.b", "c"]}), Form::Regex(r"(a\.b|c)".into())),
            (json!({"grammar": "start: \"a\""}), Form::Grammar("start: \"a\"".into())),
        ] {
            assert_eq!(form(body.clone()).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused_by_its_name() {
        for (body, param) in [
            (json!({"response_format": {"type": "xml"}}), Some("response_format.type")),
            (json!({"response_format": {}}), Some("response_format")),
            (json!({"response_format": "json"}), Some("response_format")),
            (
                json!({"response_format": {"type": "json_schema"}}),
                Some("response_format.json_schema"),
            ),
            (json!({"guided_json": 7}), Some("guided_json")),
            (json!({"guided_json": "{"}), Some("guided_json")),
            (json!({"guided_choice": []}), Some("guided_choice")),
            (json!({"regex": 1}), Some("regex")),
            (json!({"regex": "a", "grammar": "b"}), Some("grammar")),
        ] {
            let error = form(body.clone()).unwrap_err();
            assert_eq!(error.param.as_deref(), param, "{body}: {error}");
        }
    }
}
