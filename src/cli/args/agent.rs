//! What was typed for the agent. Every setting is a flag, and each may stand in the file of `--config` under the flag's name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{EventArg, RunningArgs, SamplerArg, SymbolArgs, UnwindArg};

#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(in crate::cli) struct AgentArgs {
    /// Settings in YAML: `window: 60s`, `label: [team=shop]`; what is typed comes after them
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub target: RunningArgs,
    /// Name of the service [default: of a container its own, else the command name of the target]
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Samples per second of CPU time
    #[arg(long, short = 'F', value_name = "HZ", default_value_t = 19,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub frequency: u32,
    /// Length of a window: `60s`, `5m`
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = window)]
    pub window: Duration,
    /// Folder for windows, queues and the token
    #[arg(long, value_name = "DIR", default_value = "/var/lib/perfprof")]
    pub data: PathBuf,
    /// Disk space for windows, queues and DATA/cache: the oldest windows give way
    #[arg(long, value_name = "SIZE", default_value = "1Gi", value_parser = size)]
    pub disk_budget: u64,
    /// CPU time that the agent may use, of one CPU: `1%`, `10m` or `0.01`; the rate is lowered before it is exceeded for long
    #[arg(long, value_name = "CPU", default_value = "1%", value_parser = cores)]
    pub max_cpu: f64,
    /// Memory that the agent may use, with its maps in the kernel
    #[arg(long, value_name = "SIZE", default_value = "256Mi", value_parser = size)]
    pub max_memory: u64,
    /// Address of the HTTP server; port 0 takes a free one, which DATA/http-address then names
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9871")]
    pub listen: SocketAddr,
    /// File with the token that a request for a recording must show [default: one is made, DATA/http-token]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Longest recording that may be asked for over HTTP
    #[arg(long, value_name = "TIME", default_value = "600s", value_parser = time)]
    pub max_recording: Duration,
    /// What SIGTERM leaves for the last window and for what is still to be pushed
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = time)]
    pub grace: Duration,
    #[command(flatten)]
    pub labels: LabelArgs,
    #[command(flatten)]
    pub push: PushArgs,
    /// What makes a sample: hardware cycles where they exist, else the CPU clock
    #[arg(long, value_enum, default_value_t = EventArg::Auto)]
    pub event: EventArg,
    /// Where samples are taken: in a BPF program, or by perf events alone
    #[arg(long, value_enum, default_value_t = SamplerArg::Auto)]
    pub sampler: SamplerArg,
    /// How user stacks are walked
    #[arg(long, value_enum, default_value_t = UnwindArg::Auto)]
    pub unwind: UnwindArg,
    /// Leave out kernel frames and the time spent in the kernel
    #[arg(long)]
    pub no_kernel: bool,
    /// Keep all capabilities instead of dropping those that are not needed
    #[arg(long)]
    pub keep_capabilities: bool,
    #[command(flatten)]
    pub symbols: SymbolArgs,
}

/// What profiles are labelled with.
#[derive(Debug, Args)]
pub(in crate::cli) struct LabelArgs {
    /// Label of every profile; repeatable
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Folder of the downward API: the pod's labels, and what else it tells
    #[arg(long, value_name = "DIR")]
    pub labels_dir: Option<PathBuf>,
    /// Name of the node, for labels and for the Kubernetes API [default: $NODE_NAME, or what --labels-dir says]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Ask the Kubernetes API for names of pods and containers: `off`, `in-cluster`, or a URL
    #[arg(long, value_name = "API", default_value = "off")]
    pub kubernetes_api: String,
}

/// Where profiles are sent.
#[derive(Debug, Args)]
pub(in crate::cli) struct PushArgs {
    /// Pyroscope's address
    #[arg(long, value_name = "URL")]
    pub push_pyroscope: Option<String>,
    /// Parca's address (gRPC)
    #[arg(long, value_name = "URL")]
    pub push_parca: Option<String>,
    /// Address of a receiver of OTLP profiles, over gRPC
    #[arg(long, value_name = "URL")]
    pub push_otlp_grpc: Option<String>,
    /// Address of a receiver of OTLP profiles, over HTTP
    #[arg(long, value_name = "URL")]
    pub push_otlp_http: Option<String>,
    /// Header that goes with everything that is sent; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    pub push_header: Vec<String>,
    /// Disk space for what waits to be sent; half of the disk budget at most
    #[arg(long, value_name = "SIZE", default_value = "256Mi", value_parser = size)]
    pub push_budget: u64,
}

const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);

fn window(text: &str) -> Result<Duration, String> {
    match time(text)? {
        window if (SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&window) => Ok(window),
        _ => Err("a window lasts from 1s to 1h".into()),
    }
}

/// `1.5s`, `250ms`, `10m`, `1h`; a bare number is seconds.
fn time(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 4] = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let wrong = || "not a time, as 60s, 250ms, 10m or 1h".to_owned();
    let found = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (number, factor) = found.unwrap_or((text, &1.0));
    let seconds = number.trim().parse::<f64>().map_err(|_| wrong())? * factor;
    match seconds > 0.0 && seconds <= 86_400.0 * 7.0 {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(wrong()),
    }
}

/// As Kubernetes writes quantities: `256Mi`, `1Gi`, `500M`, a bare number of bytes.
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 6] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("k", 1000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
    ];
    let wrong = || "not a size of at least 1Mi, as 256Mi, 1Gi or 500M".to_owned();
    let found = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (number, factor) = found.unwrap_or((text, &1));
    let bytes = number
        .trim()
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(*factor));
    bytes.filter(|bytes| *bytes >= 1 << 20).ok_or_else(wrong)
}

/// `1%` of one CPU, `10m`illicores, `0.01` CPUs.
fn cores(text: &str) -> Result<f64, String> {
    let parsed = match (text.strip_suffix('%'), text.strip_suffix('m')) {
        (Some(percent), _) => percent.trim().parse::<f64>().map(|value| value / 100.0),
        (_, Some(milli)) => milli.trim().parse::<f64>().map(|value| value / 1000.0),
        _ => text.parse::<f64>(),
    };
    match parsed {
        Ok(cores) if (0.0001..=1024.0).contains(&cores) => Ok(cores),
        _ => Err("not a part of a CPU, as 1%, 10m or 0.01".into()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = split.ok_or("not NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_writes_them() {
        assert_eq!((size("256Mi"), size("1Gi")), (Ok(256 << 20), Ok(1 << 30)));
        assert_eq!((size("5M"), size("2097152")), (Ok(5_000_000), Ok(2 << 20)));
        for bad in ["", "Mi", "-1Mi", "1Ti", "12", "99999999999Gi", "1.5Gi"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(
            (cores("1%"), cores("10m"), cores("0.01")),
            (Ok(0.01), Ok(0.01), Ok(0.01))
        );
        for bad in ["", "0", "-1%", "NaN", "x"] {
            assert!(cores(bad).is_err(), "{bad}");
        }
        assert_eq!(time("90"), Ok(Duration::from_secs(90)));
        assert_eq!(
            (time("1.5m"), time("250ms")),
            (Ok(Duration::from_secs(90)), Ok(Duration::from_millis(250)))
        );
        for bad in ["", "s", "0s", "-1s", "infs", "NaN", "2 weeks"] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert!(window("0.5s").is_err() && window("2h").is_err() && window("60s").is_ok());
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(label("=b").is_err() && label("a").is_err());
    }
}
