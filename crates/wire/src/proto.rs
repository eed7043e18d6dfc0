//! The generated messages and services, by package; `cargo xtask gen` writes them.
#![expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated code"
)]

/// The delta part of Envoy's discovery protocol.
pub mod discovery {
    include!("generated/envoy.service.discovery.v3.rs");
}

/// Package `tacit`: generated code refers to other packages by their path below it.
pub mod tacit {
    /// Rows of the mesh.
    pub mod mesh {
        /// Version 1.
        pub mod v1 {
            include!("generated/tacit.mesh.v1.rs");
        }
    }
    /// What a node asks of the control plane.
    pub mod control {
        /// Version 1.
        pub mod v1 {
            include!("generated/tacit.control.v1.rs");
        }
    }
}

pub use tacit::control::v1 as control;
pub use tacit::mesh::v1 as mesh;
