//! Subcommands and options.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tacit_analysis::down;
use tacit_api::policy_test::DownPlace;
use tacit_model::Namespace;
use tacit_model::hosting::{IdentityPattern, InvalidPattern};
use tacit_model::names::InvalidName;

mod diff;

pub(crate) use diff::DiffArgs;

/// A service mesh that applications never have to mention.
///
/// A mesh of your own is three commands:
///
///   tacit up
///   tacit run --as shop/payments --port http:8080 -- python3 -m http.server 8080
///   tacit run --as shop/web -- curl http://payments.shop/
///
/// (the second needs a Service in the directory or applied: see `examples/`).
///
#[derive(Parser, Debug)]
#[command(
    name = "tacit",
    version,
    verbatim_doc_comment,
    max_term_width = 100,
    after_long_help = EXIT_CODES
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const RUN_EXAMPLES: &str = "\
Examples:
  tacit run --as shop/hello --port http:8080 -- python3 -m http.server 8080
  tacit run --as shop/web -- curl -s http://hello.shop/
  tacit run --as shop/hello --port http:8080 --publish 8080 -- ./server";

const SIMULATE_EXAMPLES: &str = "\
Examples:
  tacit simulate -f mesh/ --down zone=us-east-1a
  tacit simulate -f mesh/ --down node=host-a --down workload=shop/payments-2";

const TEST_EXAMPLES: &str = "\
Examples:
  tacit test -f mesh/
  tacit test -f mesh/ tests/payments.yaml";

const WHY_EXAMPLES: &str = "\
Examples:
  tacit why shop/web http://hello.shop/
  tacit why shop/web http://ledger.shop/accounts/1 --method POST
  tacit why shop/web tcp://db.shop:5432";

const TRANSLATE_EXAMPLES: &str = "\
Examples:
  tacit translate --to istio -f mesh/ | kubectl apply -f -
  tacit translate --to istio -f mesh/ -o json --strict > istio.json";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  findings that are errors, something failed, (`test`) a case fails,
     (`simulate`) something would fail that works now, or (`diff`) something differs
  2  the arguments make no sense, or (`test`, `simulate`, `diff`) the files have errors
  3  the mesh cannot be reached
  4  refused: no right to do it, or (`why`) the call is denied
  5  the time ran out (`wait`)
`run` exits as its program does (128+N for signal N), with 127 if there is no such program and
126 if it cannot be executed.";

/// Options of every subcommand.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Which mesh of this machine.
    #[arg(
        long,
        global = true,
        default_value = "default",
        env = "TACIT_MESH",
        help_heading = "Which mesh"
    )]
    pub(crate) mesh: String,
    /// Talk to this control plane instead of the one on this machine: `tls:HOST:PORT`.
    #[arg(long, global = true, env = "TACIT_SERVER", help_heading = "Which mesh")]
    pub(crate) server: Option<String>,
    /// Directory with `person.crt`, `person.key` and `roots.crt`, for `--server tls:...`.
    #[arg(
        long,
        global = true,
        env = "TACIT_IDENTITY",
        help_heading = "Which mesh"
    )]
    pub(crate) identity: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Create or change objects.
    ///
    /// A file with an error is not applied at all. A reference to what does not exist yet is
    /// applied, waits, and exits with 1.
    Apply(ApplyArgs),
    /// Issue a client certificate for a person or a pipeline (administrator only).
    Certificate(CertificateArgs),
    /// Check files without a mesh: what would be refused, and where.
    Check(CheckArgs),
    /// Print a shell completion script.
    Completions(CompletionsArgs),
    /// Run the control plane in the foreground (`up` does this for you).
    Control(ControlArgs),
    /// Delete an object.
    Delete(DeleteArgs),
    /// Show what Tacit does: a real mesh of four zones on this machine, in five acts.
    Demo(DemoArgs),
    /// Say which calls would have another outcome: what two sets of files describe, compared.
    ///
    /// Covers every call to a port of a service, not samples. Needs no mesh. Exits with 1 if
    /// anything differs.
    Diff(DiffArgs),
    /// Stop the mesh of this machine.
    Down,
    /// Say what a finding means, how to fix it, and show an example: `tacit explain TCT1104`.
    Explain(ExplainArgs),
    /// Show objects.
    Get(GetArgs),
    /// A load generator, as the demo uses it.
    Load(tacit_demo::load::LoadArgs),
    /// Run the node proxy in the foreground (`up` does this for you).
    Node(NodeArgs),
    /// Make the decisions of a decision log again, and say which ones differ.
    Replay(ReplayArgs),
    /// Run any program as a workload of the mesh.
    Run(RunArgs),
    /// A small HTTP application, as the demo uses it.
    Sample(tacit_demo::sample::SampleArgs),
    /// Say where the traffic of the mesh that files describe would go with places down.
    ///
    /// Needs no mesh. Exits with 1 if something that works now would fail.
    Simulate(SimulateArgs),
    /// Show the mesh: nodes, generations, live rates, certificates.
    Status(StatusArgs),
    /// Run the PolicyTests of files against the mesh that the files describe.
    ///
    /// A case holds if it is true of every caller that fits it and of every endpoint that may
    /// serve it. Needs no mesh. Exits with 1 if a case fails.
    Test(TestArgs),
    /// Make a one-time token with which another machine's node joins.
    Token(TokenArgs),
    /// Write the objects of another mesh that run the same intent.
    ///
    /// What the other mesh cannot express is said on standard error, with its place.
    Translate(TranslateArgs),
    /// Bring up the control plane and the node proxy of this machine, and keep them up.
    Up(UpArgs),
    /// Wait until an object is in force everywhere.
    Wait(WaitArgs),
    /// Say what would happen to a call, and which line says so.
    Why(WhyArgs),
}

/// How to print data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Json,
    Table,
    Yaml,
}

#[derive(Args, Debug)]
pub(crate) struct ApplyArgs {
    /// A file or a directory of YAML, or `-` for standard input.
    #[arg(short, long)]
    pub(crate) file: PathBuf,
    /// Only say what would happen.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct CertificateArgs {
    /// The common name that `Mesh.subjects` maps to a user and groups.
    #[arg(long)]
    pub(crate) common_name: String,
    /// The directory to write `person.crt`, `person.key` and `roots.crt` to.
    #[arg(short, long)]
    pub(crate) out: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Files or directories of YAML, or `-` for standard input.
    #[arg(short, long, required = true, num_args = 1..)]
    pub(crate) file: Vec<PathBuf>,
    /// How to print findings.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ControlArgs {
    /// A directory of YAML that is watched and acts as administrator.
    #[arg(short, long)]
    pub(crate) file: Option<PathBuf>,
    /// Addresses under which nodes reach this control plane.
    #[arg(long)]
    pub(crate) address: Vec<IpAddr>,
    /// The user id that is administrator.
    #[arg(long, default_value_t = 0)]
    pub(crate) administrator: u32,
    #[command(flatten)]
    pub(crate) ports: PortsArgs,
}

/// A cipher of TLS 1.3.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Cipher {
    #[value(name = "aes-128-gcm")]
    Aes128Gcm,
    /// For those who must, such as users of the CNSA suite; costs a little more per byte.
    #[value(name = "aes-256-gcm")]
    Aes256Gcm,
}

#[derive(Args, Debug)]
pub(crate) struct NodeArgs {
    /// The node's name.
    #[arg(long)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) at: LocalityArgs,
    /// A join token; needed only the first time.
    #[arg(long, env = "TACIT_JOIN_TOKEN", hide_env_values = true)]
    pub(crate) join: Option<String>,
    /// This machine's address, as other nodes reach it.
    #[arg(long)]
    pub(crate) address: Option<IpAddr>,
    /// The user id that is administrator.
    #[arg(long, default_value_t = 0)]
    pub(crate) administrator: u32,
    #[command(flatten)]
    pub(crate) tuning: TuningArgs,
    #[command(flatten)]
    pub(crate) ports: PortsArgs,
}

/// Ports of this machine that a mesh uses.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct PortsArgs {
    /// Where this mesh's ports of the machine begin: nodes connect to the 12th from here, people
    /// with a certificate to the 17th, metrics are on the 20th. Each mesh needs its own.
    #[arg(
        long,
        default_value_t = PORT_BASE,
        value_parser = clap::value_parser!(u16).range(1024..=65000)
    )]
    pub(crate) port_base: u16,
}

/// The ports that Istio uses, too, begin here.
const PORT_BASE: u16 = 15000;

impl PortsArgs {
    /// The port of this mesh that is `usual` in a mesh that is alone.
    pub(crate) fn port(self, usual: u16) -> u16 {
        usual - PORT_BASE + self.port_base
    }

    /// The same for a role that is started.
    pub(crate) fn arguments(self) -> [OsString; 2] {
        ["--port-base".into(), self.port_base.to_string().into()]
    }
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct LocalityArgs {
    /// The zone in which this machine is.
    #[arg(long)]
    pub(crate) zone: Option<String>,
    /// The region; absent: from `Mesh.localities` by the zone.
    #[arg(long)]
    pub(crate) region: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TuningArgs {
    /// Worker threads of the node proxy; absent: one for each two cores, at most 8.
    #[arg(long)]
    pub(crate) workers: Option<usize>,
    /// The cipher that sessions to other nodes ask for first; both are always accepted.
    #[arg(long, value_enum, default_value = "aes-128-gcm")]
    pub(crate) cipher: Cipher,
    /// Where the access log goes: `stdout`, `off`, or a file.
    #[arg(long, default_value = "access.log")]
    pub(crate) access_log: String,
    /// Log every decision with all that it was made from, for `tacit replay`. It grows without
    /// bound; a relative path is below the runtime directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) decision_log: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) demo: tacit_demo::DemoArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The code, as findings have it: `TCT1104`; absent: a list of all.
    pub(crate) code: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// The kind, for example `service`, `retrytimeoutpolicy` or `all`.
    pub(crate) kind: String,
    /// `NAMESPACE/NAME`, or `NAME` for a cluster-scoped kind; absent: all.
    pub(crate) name: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct ObjectArgs {
    /// The kind.
    pub(crate) kind: String,
    /// `NAMESPACE/NAME`, or `NAME` for a cluster-scoped kind.
    pub(crate) name: String,
}

#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(crate) object: ObjectArgs,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    /// The log, as `tacit up --decision-log FILE` wrote it, with `FILE.generations` beside it.
    pub(crate) file: PathBuf,
}

#[derive(Args, Debug)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArgs {
    /// The identity: `NAMESPACE/SERVICE-ACCOUNT`.
    #[arg(long = "as", value_name = "NAMESPACE/SERVICE-ACCOUNT")]
    pub(crate) run_as: String,
    /// The workload's name; absent: the service account and five random characters.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A label that Services and policies select by; may be repeated. `app` is the service
    /// account unless given.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// A port that the program listens on, as `NAME:PORT`; a name that starts with `http` is
    /// framed as HTTP. May be repeated.
    #[arg(long, value_name = "NAME:PORT")]
    pub(crate) port: Vec<String>,
    /// The zone, if it differs from the node's.
    #[arg(long)]
    pub(crate) zone: Option<String>,
    /// A port of this machine that leads to the program: `PORT` or `PORT:TARGET`.
    #[arg(long, value_name = "PORT[:TARGET]")]
    pub(crate) publish: Vec<String>,
    /// The program and its arguments.
    #[arg(last = true, required = true, num_args = 1..)]
    pub(crate) command: Vec<String>,
}

#[derive(Args, Debug)]
#[command(after_help = SIMULATE_EXAMPLES)]
pub(crate) struct SimulateArgs {
    /// A file or directory of YAML with the objects of the mesh; may be repeated.
    #[arg(short, long, required = true)]
    pub(crate) file: Vec<PathBuf>,
    /// A place that is down: `zone=`, `region=`, `cluster=`, `node=` or `workload=NAMESPACE/NAME`,
    /// or several of them with commas between, which must all fit. May be repeated.
    #[arg(long, required = true, value_name = "PLACE", value_parser = down::parse)]
    pub(crate) down: Vec<DownPlace>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Args, Debug)]
#[command(after_help = TEST_EXAMPLES)]
pub(crate) struct TestArgs {
    /// A file or directory of YAML with the objects of the mesh; may be repeated.
    #[arg(short, long, required = true)]
    pub(crate) file: Vec<PathBuf>,
    /// Files with the tests to run; absent: all that are in `--file`.
    pub(crate) tests: Vec<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct TokenArgs {
    /// The name of the node that will join.
    #[arg(long)]
    pub(crate) node: String,
    /// What it may host: NAMESPACE/SERVICEACCOUNT, each half also `*` or a beginning and `*`. Can
    /// be given several times; without it the node may host everything, so give it for every
    /// machine that is not as trusted as the mesh itself.
    #[arg(long = "may-host", value_name = "NAMESPACE/SERVICEACCOUNT", value_parser = pattern)]
    pub(crate) identities: Vec<IdentityPattern>,
}

#[derive(Args, Debug)]
#[command(after_help = TRANSLATE_EXAMPLES)]
pub(crate) struct TranslateArgs {
    /// The other mesh.
    #[arg(long, value_enum)]
    pub(crate) to: OtherMesh,
    /// Files or directories of YAML, or `-` for standard input.
    #[arg(short, long, required = true, num_args = 1..)]
    pub(crate) file: Vec<PathBuf>,
    /// How to print the objects.
    #[arg(short, long, value_enum, default_value = "yaml")]
    pub(crate) output: ObjectFormat,
    /// Exit with 1 if something cannot be expressed, or only otherwise than it is meant.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Istio's root namespace (`meshConfig.rootNamespace`).
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system", value_parser = namespace)]
    pub(crate) istio_root: Namespace,
}

/// A mesh that objects can be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OtherMesh {
    Istio,
}

/// How to print objects that other programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ObjectFormat {
    /// One `List`.
    Json,
    /// Documents.
    Yaml,
}

fn namespace(text: &str) -> Result<Namespace, InvalidName> {
    text.try_into()
}

fn pattern(text: &str) -> Result<IdentityPattern, InvalidPattern> {
    text.try_into()
}

#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// A directory of YAML that is watched and acts as administrator.
    #[arg(short, long)]
    pub(crate) file: Option<PathBuf>,
    /// Only the control plane, no node on this machine.
    #[arg(long, conflicts_with = "join")]
    pub(crate) control_only: bool,
    /// Only a node, which joins another machine's mesh with this token (`tacit token`).
    #[arg(
        long,
        env = "TACIT_JOIN_TOKEN",
        hide_env_values = true,
        conflicts_with = "file"
    )]
    pub(crate) join: Option<String>,
    /// This machine's node name; absent: its host name.
    #[arg(long)]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) at: LocalityArgs,
    /// This machine's address, as other machines reach it.
    #[arg(long)]
    pub(crate) address: Option<IpAddr>,
    #[command(flatten)]
    pub(crate) tuning: TuningArgs,
    #[command(flatten)]
    pub(crate) ports: PortsArgs,
}

#[derive(Args, Debug)]
pub(crate) struct WaitArgs {
    /// The condition.
    #[arg(long = "for", value_enum, ignore_case = true)]
    pub(crate) condition: Condition,
    #[command(flatten)]
    pub(crate) object: ObjectArgs,
    /// How long, for example `10s`.
    #[arg(long, default_value = "30s")]
    pub(crate) timeout: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum Condition {
    /// It is valid.
    Accepted,
    /// A FailoverPolicy has somewhere to go.
    Armed,
    /// Every node has it in force.
    Programmed,
    /// Every backend of a route can be used.
    ResolvedRefs,
}

impl Condition {
    /// As the admin API calls it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Armed => "Armed",
            Self::Programmed => "Programmed",
            Self::ResolvedRefs => "ResolvedRefs",
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = WHY_EXAMPLES)]
pub(crate) struct WhyArgs {
    /// Who calls: a workload's `NAMESPACE/NAME` or an identity's `NAMESPACE/SERVICE-ACCOUNT`.
    pub(crate) source: String,
    /// What is called, for example `http://ledger.shop/accounts/1`.
    pub(crate) url: String,
    /// The HTTP method.
    #[arg(long, default_value = "GET")]
    pub(crate) method: String,
    /// A header of the request, `NAME:VALUE`; may be repeated.
    #[arg(long)]
    pub(crate) header: Vec<String>,
    /// The zone of the caller, if no workload of it runs.
    #[arg(long)]
    pub(crate) zone: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[cfg(test)]
mod tests;
