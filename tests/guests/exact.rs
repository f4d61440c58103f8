// Asks for exactly what a query says, shared by the guests `flow` and `sync` with `include!`: numbers to the last one, and text
// as it is, percent-encoded.

/// `name=value&...`.
struct Exact(Vec<(String, String)>);

impl Exact {
    fn new(query: &str) -> Self {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.all(name).next().map(str::to_owned)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.all(name).next().map(|text| text.parse().ok().expect("a number of its type"))
    }

    fn options(&self) -> Option<RequestOptions> {
        const OPTIONS: [&str; 6] = ["max-wait", "lease-time", "priority", "fairness", "target", "inline"];
        if !self.0.iter().any(|(name, _)| OPTIONS.contains(&name.as_str())) {
            return None;
        }
        let options = RequestOptions::new();
        if let Some(nanoseconds) = self.number("max-wait") {
            options.set_max_wait(nanoseconds);
        }
        if let Some(nanoseconds) = self.number("lease-time") {
            options.set_lease_time(nanoseconds);
        }
        if let Some(priority) = self.number("priority") {
            options.set_priority(priority);
        }
        if let Some(key) = self.text("fairness") {
            options.set_fairness(&key, self.number("weight").unwrap_or(1));
        }
        for target in self.all("target") {
            let (scope, key) = target.split_once('/').map_or((target, None), |(scope, key)| (scope, Some(key)));
            options.add_target(scope, key);
        }
        for key in self.all("inline") {
            options.add_flow_control(key, &self.limits());
        }
        Some(options)
    }

    fn limits(&self) -> FlowLimits {
        let concurrency = |name, counts| self.number(name).map(|limit| Concurrency { limit, counts });
        FlowLimits {
            concurrency: concurrency("concurrency", Counts::Calls).or(concurrency("concurrency-cost", Counts::Cost)),
            rates: self.all("rate").map(rate).collect(),
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome::PushedBack(self.number("pause"))
    }
}

/// `limit/nanoseconds`, a window; `limit/nanoseconds/burst`, smooth.
fn rate(text: &str) -> Rate {
    let numbers: Vec<u64> = text.split('/').map(|number| number.parse().expect("a number")).collect();
    Rate {
        limit: numbers[0].try_into().expect("32 bits"),
        period: numbers[1],
        mode: if numbers.len() == 3 { RateMode::Smooth } else { RateMode::Window },
        burst: numbers.get(2).map(|burst| (*burst).try_into().expect("32 bits")),
        counts: Counts::Calls,
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(if byte == b'%' { (digit().expect("hex") * 16 + digit().expect("hex")) as u8 } else { byte });
    }
    String::from_utf8(bytes).expect("text")
}

fn exactly_refused(refusal: &Refusal) -> String {
    format!("{:?}|{}", refusal.reason, refusal.message)
}

/// Does what the query says, and answers what came of it. The flavours differ in how they take a text, and in what each call is
/// followed by.
macro_rules! exactly {
    ($interface:ident, $asked:expr, [$($text:tt)*], [$($wait:tt)*]) => {{
        let asked: &Exact = $asked;
        let (scope, key) = (asked.text("scope"), asked.text("key"));
        let (cost, more) = (asked.number("cost").unwrap_or(1), asked.options());
        let call = asked.text("call").expect("a call");
        let done = match call.as_str() {
            "try-acquire" => $interface::try_acquire(scope $($text)*, key $($text)*, cost, more) $($wait)* .map(|_| "granted".to_owned()),
            "check" => $interface::check(scope $($text)*, key $($text)*, cost, more) $($wait)* .map(|_| "granted".to_owned()),
            "acquire-batch" => {
                let (count, least) = (asked.number("count").unwrap_or(1), asked.number("least").unwrap_or(1));
                let batch = $interface::acquire_batch(scope $($text)*, key $($text)*, cost, count, least, more) $($wait)*;
                batch.map(|batch| format!("granted {}", batch.len()))
            }
            _ => match $interface::acquire(scope $($text)*, key $($text)*, cost, more) $($wait)* {
                Ok(lease) => match call.as_str() {
                    "extend" => $interface::extend(&lease, asked.number("to").expect("a time")) $($wait)*
                        .map(|remaining| format!("lasts {remaining:?}")),
                    "settle" => $interface::settle(&lease, asked.number("to").expect("a cost")) $($wait)*
                        .map(|settled| format!("-{} +{}", settled.refunded, settled.overrun)),
                    "release" => {
                        $interface::release(lease, asked.outcome());
                        Ok("released".to_owned())
                    }
                    _ => Ok("granted".to_owned()),
                },
                Err(refusal) => Err(refusal),
            },
        };
        done.unwrap_or_else(|refusal| exactly_refused(&refusal))
    }};
}
