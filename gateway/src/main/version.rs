//! The version of the program, as it is told to people and to Prometheus.

use prometheus::{IntGauge, Opts, Registry};

/// The version, after the name, so that it can be found in the file of the program too.
static RELEASE: &str = concat!("penstock ", env!("CARGO_PKG_VERSION"));

/// The version of the program.
pub(crate) fn version() -> &'static str {
    RELEASE.rsplit(' ').next().unwrap_or(RELEASE)
}

/// Shows the version under ingress-nginx's name.
pub(crate) fn register(registry: &Registry) -> prometheus::Result<()> {
    let options = Opts::new("nginx_ingress_controller_build_info", "The program, always 1");
    let labels = [("release", version())];
    let info = labels.into_iter().fold(options, |options, (name, value)| options.const_label(name, value));
    let gauge = IntGauge::with_opts(info)?;
    gauge.set(1);
    registry.register(Box::new(gauge))
}
