//! The middleware's names and numbers from what a request says, without a component around them.

use std::num::NonZeroU32;

// Compiled for itself into the middleware, which exists on wasm32 only.
#[path = "../../guest/middleware/src/template.rs"]
mod names;

use names::{Facts, Number, Template};

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

fn cost(template: &str, asked: &Asked) -> Result<u32, String> {
    template.parse::<Number<NonZeroU32>>().expect("a cost").fill(asked).map(NonZeroU32::get)
}

fn priority(template: &str, asked: &Asked) -> Result<u8, String> {
    template.parse::<Number<u8>>().expect("a priority").fill(asked)
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

#[test]
fn numbers_are_filled_with_what_the_request_says() {
    let asked = Asked {
        headers: vec![("x-cost", b"40"), ("x-zeros", b"0007"), ("x-most", b"4294967295"), ("x-empty", b"")],
        target: "/v1/3//255",
        authority: None,
    };
    for (template, number) in [
        ("1", 1),
        ("4294967295", u32::MAX),
        ("0040", 40),
        ("{header:x-cost}", 40),
        ("{header:X-Cost|1}", 40),
        ("{header:x-zeros}", 7),
        ("{header:x-most}", u32::MAX),
        ("{header:x-none|1}", 1),
        ("{header:x-empty|4294967295}", u32::MAX),
        ("{path:1}", 3),
        ("{path:2|9}", 9),
        ("1{path:1}{header:x-cost}", 1340),
        ("2{header:x-none|}", 2),
        ("{header:x-none|}{path:1}", 3),
    ] {
        assert_eq!(cost(template, &asked), Ok(number), "{template}");
    }
    for (template, number) in [
        ("0", 0),
        ("255", 255),
        ("{path:1|128}", 3),
        ("{path:3}", 255),
        ("{path:4|128}", 128),
        ("{path:4|0}", 0),
        ("{header:x-none|255}", 255),
    ] {
        assert_eq!(priority(template, &asked), Ok(number), "{template}");
    }
}

#[test]
fn what_is_no_number_is_named_with_its_bounds() {
    for value in [
        "0",
        "000",
        "4294967296",
        "99999999999999999999999999",
        "-1",
        "-0",
        "+5",
        "+",
        " ",
        " 5",
        "5 ",
        "5\t",
        "5 5",
        "5,5",
        "1.0",
        "1e3",
        "0x10",
        "1_000",
        "five",
        "{path:0}",
        "\u{665}",
        "5\u{ff15}",
    ] {
        let asked = Asked { headers: vec![("x-cost", value.as_bytes())], ..Asked::default() };
        for template in ["{header:x-cost}", "{header:x-cost|1}"] {
            let refused = cost(template, &asked).expect_err(value);
            assert!(refused.starts_with("the header `x-cost` "), "{value:?}: {refused}");
            assert!(refused.contains("no number from 1 to 4294967295"), "{value:?}: {refused}");
        }
    }
    let asked = Asked {
        headers: vec![("x-two", b"1"), ("x-two", b"1"), ("x-empty", b""), ("x-nines", b"99")],
        target: "/256/-1/%35/9",
        authority: None,
    };
    for (template, says) in [
        ("{path:0}", "the path segment 0 makes no number from 0 to 255"),
        ("{path:1|1}", "the path segment 1 has the byte 0x2d, which no number from 0 to 255 can have"),
        ("{path:2}", "the path segment 2 has the byte 0x25, which no number"),
        ("9{header:x-nines}", "the header `x-nines` makes no number from 0 to 255"),
        ("{header:x-nines}{path:3}", "the header `x-nines` with path segment 3 makes no number from 0 to 255"),
        ("{path:4}", "no path segment 4"),
        ("{header:x-none}", "no header `x-none`"),
        ("{header:x-empty}", "no header `x-empty`"),
        ("{header:x-two|1}", "header `x-two` more than once"),
    ] {
        let refused = priority(template, &asked).expect_err(template);
        assert!(refused.contains(says), "{template}: {refused}");
    }
}

#[test]
fn a_number_that_no_request_could_mend_says_what_is_wrong() {
    for (template, says) in [
        ("", "``: it is not a number from 0 to 255"),
        ("256", "`256`: it is not a number from 0 to 255"),
        ("-1", "not a number"),
        ("+5", "not a number"),
        (" 5", "not a number"),
        ("5}", "not a number"),
        ("five", "not a number"),
        ("\u{665}", "not a number"),
        ("99999999999999999999999999", "not a number"),
        ("{header:x|256}", "where a request has no such thing, it is no number from 0 to 255"),
        ("2{header:x|5}{path:0|6}", "it is no number from 0 to 255"),
        ("{header:x|}", "write a number from 0 to 255 behind `|`"),
        ("{header:x|+1}", "`+1`: a number from 0 to 255 cannot have the byte 0x2b"),
        ("{header:x|one}", "0x6f"),
        ("{header:x|\u{665}}", "0xd9"),
        ("-{header:x}", "0x2d"),
        ("{header:x} ", "0x20"),
        ("{header:x", "never closed"),
        ("{query:x}", "is none of"),
        ("{method}", "`{header:NAME}` and `{path:N}` alone"),
        ("1{host|1}", "`{header:NAME}` and `{path:N}` alone"),
    ] {
        let refused = template.parse::<Number<u8>>().expect_err(template);
        assert!(refused.contains(says), "{template}: {refused}");
    }
    for template in ["0", "4294967296", "{header:x|0}", "{path:0|4294967296}", "9{header:x|999999999}"] {
        let refused = template.parse::<Number<NonZeroU32>>().expect_err(template);
        assert!(refused.contains("number from 1 to 4294967295"), "{template}: {refused}");
    }
}
