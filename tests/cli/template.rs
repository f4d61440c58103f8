//! The middleware's names from what a request says, without a component around them.

// Compiled for itself into the middleware, which exists on wasm32 only.
#[path = "../../guest/middleware/src/template.rs"]
mod names;

use names::{Facts, Template};

/// A request: its headers, its path and query, whom it was sent to.
#[derive(Default)]
struct Asked {
    headers: Vec<(&'static str, &'static [u8])>,
    target: &'static str,
    authority: Option<&'static str>,
}

impl Facts for Asked {
    fn headers(&self, name: &str) -> Vec<Vec<u8>> {
        self.headers.iter().filter(|(other, _)| *other == name).map(|(_, value)| value.to_vec()).collect()
    }

    fn target(&self) -> Option<String> {
        Some(self.target.to_owned())
    }

    fn authority(&self) -> Option<String> {
        self.authority.map(str::to_owned)
    }

    fn method(&self) -> String {
        "GET".to_owned()
    }
}

fn fill(template: &str, asked: &Asked) -> Result<String, String> {
    template.parse::<Template>().expect("a template").fill(asked)
}

#[test]
fn places_are_filled_with_what_the_request_says() {
    let asked = Asked {
        headers: vec![("x-tenant", b"acme"), ("x-empty", b"")],
        target: "/v1/orders//7?path=x/y",
        authority: Some("API.example.com:8443"),
    };
    for (template, name) in [
        ("plain", "plain"),
        ("{header:x-tenant}", "acme"),
        ("t-{header:X-Tenant}.{method}", "t-acme.GET"),
        ("{path:0}:{path:1}", "v1:orders"),
        ("{path:3}", "7"),
        ("{path:2|none}", "none"),
        ("{path:4|none}", "none"),
        ("{host}", "api.example.com:8443"),
        ("{header:x-none|anonymous}", "anonymous"),
        ("{header:x-empty|anonymous}", "anonymous"),
        ("a{header:x-none|}", "a"),
    ] {
        assert_eq!(fill(template, &asked).as_deref(), Ok(name), "{template}");
    }
    let by_header = Asked { headers: vec![("host", b"Shop.test")], ..Asked::default() };
    assert_eq!(fill("{host}", &by_header).as_deref(), Ok("shop.test"));
}

#[test]
fn what_is_missing_or_no_name_is_named() {
    let asked = Asked {
        headers: vec![("x-bad", b"a b"), ("x-more", "\u{e9}".as_bytes()), ("x-two", b"1"), ("x-two", b"2")],
        target: "/50%25/x",
        authority: None,
    };
    for (template, says) in [
        ("{header:x-tenant}", "no header `x-tenant`"),
        ("{header:x-bad}", "header `x-bad` has the byte 0x20"),
        ("{header:x-bad|fine}", "0x20"),
        ("{header:x-more}", "0xc3"),
        ("{header:x-two|fine}", "header `x-two` more than once"),
        ("{path:0}", "path segment 0 has the byte 0x25"),
        ("{path:2}", "no path segment 2"),
        ("{host}", "no host"),
    ] {
        let refused = fill(template, &asked).expect_err(template);
        assert!(refused.contains(says), "{template}: {refused}");
    }
    let wrong = "{header:x|}".parse::<Template>().map(drop).expect_err("it may be nothing");
    assert!(wrong.contains("write a name behind `|`"), "{wrong}");
    let long = "a".repeat(128);
    assert!(fill(&long, &asked).is_ok());
    assert!(fill(&format!("{long}{{method}}"), &asked).is_err_and(|refused| refused.contains("131 bytes")));
}

#[test]
fn a_template_that_is_none_says_what_is_wrong() {
    for (template, says) in [
        ("", "empty"),
        ("a/b", "0x2f"),
        ("a b", "0x20"),
        ("a}b", "0x7d"),
        ("{header:x", "never closed"),
        ("{}", "`{}` is none of"),
        ("{header}", "is none of"),
        ("{header:}", "is none of"),
        ("{header:a b}", "is none of"),
        ("{path:x}", "is none of"),
        ("{path:-1}", "is none of"),
        ("{query:x}", "is none of"),
        ("{host:x}", "is none of"),
        ("{header:x|a/b}", "0x2f"),
    ] {
        let refused = template.parse::<Template>().expect_err(template);
        assert!(refused.contains(says), "{template}: {refused}");
    }
}
