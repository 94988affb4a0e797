//! Chat templates: what Transformers' environment offers, and hostile templates.

use super::error::{Result, TokenizerError};
use super::template::ChatTemplate;
use crate::error::Code;

fn render(source: &str, messages: &str) -> Result<String> {
    let variables = vec![
        ("bos_token".to_owned(), "<s>".to_owned()),
        ("eos_token".to_owned(), "</s>".to_owned()),
    ];
    ChatTemplate::new(vec![("default".to_owned(), source.to_owned())], variables)
        .render(messages, true)
}

/// Renders with one message that every template here can use.
fn shown(source: &str) -> String {
    render(
        source,
        r#"[{"role": "user", "content": "Grüße <&>'\"\n", "x": {"b": 1, "a": [true, null, 1.0]}}]"#,
    )
    .unwrap()
}

#[test]
fn the_usual_means_are_there() {
    for (source, expected) in [
        (
            "{{ bos_token }}{% for m in messages %}{{ m.role }}{% endfor %}{{ eos_token }}",
            "<s>user</s>",
        ),
        ("{% if add_generation_prompt %}yes{% endif %}", "yes"),
        ("{% if tools is not none or documents %}tools{% endif %}-{{ unk_token }}-", "--"),
        ("{{ messages[0]['content'].strip().startswith('Gr') }}", "True"),
        ("{{ messages[-1].get('none', 'default') }}", "default"),
        (
            "{% for k, v in messages[0]['x'].items() %}{{ k }}={{ v }};{% endfor %}",
            "b=1;a=[True, None, 1.0];",
        ),
        (
            "{% set ns = namespace(n=0) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
            "6",
        ),
        (
            "{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
            "13",
        ),
        ("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "1"),
        ("{%- macro twice(x) -%}{{ x }}{{ x }}{%- endmacro -%}{{ twice('ab') }}", "abab"),
        ("  {% if true %}\na\n  {% endif %}\nb\n", "a\nb"),
        ("a {%- generation -%} b {%- endgeneration -%} c", "abc"),
        ("{% generation %}{{ 'b' }}{% endgeneration %}", "b"),
        ("{{ messages[0].content | trim | length }}", "11"),
        ("{{ messages[::-1] | length }}{{ 'x' ~ 1 }}{{ ['a', 'b'] | join(',') }}", "1x1a,b"),
    ] {
        assert_eq!(shown(source), expected, "{source}");
    }
    let year: u32 = shown("{{ strftime_now('%Y') }}").parse().unwrap();
    assert!(year >= 2025);
}

/// Expected values: Python's `json.dumps(…, ensure_ascii=False)`.
#[test]
fn tojson_is_pythons() {
    for (source, expected) in [
        ("{{ messages[0]['x'] | tojson }}", r#"{"b": 1, "a": [true, null, 1.0]}"#),
        ("{{ messages[0]['content'] | tojson }}", r#""Grüße <&>'\"\n""#),
        ("{{ 'é🚀\t' | tojson(ensure_ascii=true) }}", r#""\u00e9\ud83d\ude80\t""#),
        (
            "{{ messages[0]['x'] | tojson(indent=2) }}",
            "{\n  \"b\": 1,\n  \"a\": [\n    true,\n    null,\n    1.0\n  ]\n}",
        ),
        (
            "{{ messages[0]['x'] | tojson(separators=(',', ':'), sort_keys=true) }}",
            r#"{"a":[true,null,1.0],"b":1}"#,
        ),
        (
            "{{ [[], {}, {'k': 1.5}, 1e100, 1e16, 0.00001, 123456.75] | tojson }}",
            r#"[[], {}, {"k": 1.5}, 1e+100, 1e+16, 1e-05, 123456.75]"#,
        ),
        ("{{ [] | tojson(indent=4) }}{{ none | tojson }}", "[]null"),
    ] {
        assert_eq!(shown(source), expected, "{source}");
    }
}

#[test]
fn messages_are_handed_on_as_transformers_does() {
    let keys = "{% for m in messages %}{% for k in m %}{{ k }} {% endfor %}|{% endfor %}";
    let messages = r#"[{"role": "user", "content": null, "name": "n"}, {"role": "assistant", "thinking": "hm"}]"#;
    assert_eq!(render(keys, messages).unwrap(), "role name |role thinking reasoning_content |");
    let reasoning = "{{ messages[0].thinking }},{{ messages[0].reasoning_content }}";
    assert_eq!(
        render(reasoning, r#"[{"role": "assistant", "reasoning": "hm"}]"#).unwrap(),
        "hm,hm"
    );
}

#[test]
fn wrong_conversations_are_named() {
    for (messages, expected) in [
        ("[{", "the conversation is not JSON, line 1, column 2"),
        ("{}", "the conversation is not a list of messages"),
        ("\"x\"", "the conversation is not a list of messages"),
        (r#"[{"role": "user"}, 3]"#, "message 1 is not an object with a role"),
        (r#"[{"content": "x"}]"#, "message 0 is not an object with a role"),
    ] {
        let error = render("", messages).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(error.code(), Code::Data);
    }
    // Deeper nesting than any conversation's ends in the parser.
    let deep = format!(
        r#"[{{"role": "user", "content": {}1{}}}]"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(matches!(render("", &deep), Err(TokenizerError::MessagesJson { .. })));
}

#[test]
fn broken_templates_are_named() {
    let error = render("a\n{% if %}", "[]").unwrap_err();
    assert!(matches!(error, TokenizerError::TemplateSyntax { line: 2, .. }), "{error}");
    let error =
        render("\n\n{{ messages[0].content + 1 }}", r#"[{"role": "user", "content": "x"}]"#)
            .unwrap_err();
    assert!(matches!(error, TokenizerError::TemplateFailed { line: 3, .. }), "{error}");
    let error = render(
        "{% macro f() %}{{ raise_exception('Roles must alternate!') }}{% endmacro %}{{ f() }}",
        "[]",
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the chat template refuses the conversation: Roles must alternate!"
    );
    assert_eq!(error.code(), Code::Data);
    let none = ChatTemplate::new(vec![("tool_use".into(), String::new())], vec![])
        .render("[]", false)
        .unwrap_err();
    assert_eq!(
        none.to_string(),
        "the tokenizer has no chat template named `default`, only tool_use"
    );
}

#[test]
fn hostile_templates_end() {
    let many = "{% for i in range(99999) %}";
    let nested = format!("{}x{}", many.repeat(3), "{% endfor %}".repeat(3));
    let doubling = format!(
        "{{% set ns = namespace(s='x') %}}{many}{{% set ns.s = ns.s ~ ns.s %}}{{% endfor %}}{{{{ ns.s }}}}"
    );
    let deep_list =
        format!("{{% set ns = namespace(s=[]) %}}{many}{{% set ns.s = [ns.s] %}}{{% endfor %}}");
    for source in [
        nested.as_str(),
        &doubling,
        &format!("{deep_list}{{{{ ns.s | tojson }}}}"),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'x' * 100000000000 }}",
        "{{ [1] * 100000000000 }}",
        "{{ 'x' | indent(10000000000) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ range(100000000000) | list }}",
        &format!("{}x{}", "{% if true %}".repeat(100_000), "{% endif %}".repeat(100_000)),
        &format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
        &"{% generation".repeat(9_000),
        // Past the length limit.
        &"x".repeat(1 << 18),
    ] {
        let start = std::time::Instant::now();
        assert!(render(source, "[]").is_err(), "{}", &source[..source.len().min(80)]);
        assert!(start.elapsed().as_secs() < 5, "{}", &source[..source.len().min(80)]);
    }
    // Nesting that is allowed must not overflow the stack, whatever comes of it.
    let chain = |open: &str, link: &str, close: &str| {
        [open, &link.repeat(130_000 / link.len()), close].concat()
    };
    for source in [
        format!("{deep_list}{{{{ ns.s }}}}"),
        format!("{deep_list}{{{{ ns.s == ns.s }}}}"),
        chain("{{ ", "not ", "1 }}"),
        chain("{{ ", "-", "1 }}"),
        chain("{{ 1", "+1", " }}"),
        chain("{{ a", ".a", " }}"),
        chain("{{ a", "|e", " }}"),
        chain("{{ 1", " if 1 else 1", " }}"),
        chain("{% if 1 %}", "{%elif 1%}", "{% endif %}"),
    ] {
        let start = std::time::Instant::now();
        drop(render(&source, "[]"));
        assert!(start.elapsed().as_secs() < 5, "{}", &source[..80]);
    }
    let error = render(&nested, "[]").unwrap_err();
    assert!(matches!(error, TokenizerError::TemplateFuel { .. }), "{error}");
}

#[test]
fn a_long_conversation_has_the_fuel_it_needs() {
    let message = format!(r#"{{"role": "user", "content": "{}"}}"#, "wort ".repeat(200));
    let messages = format!("[{}]", vec![message; 1000].join(","));
    let source = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim + '<|im_end|>' }}{% endfor %}";
    assert!(render(source, &messages).unwrap().len() > 1_000_000);
}
