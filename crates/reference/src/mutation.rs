//! Wrong rules, one each: a comparison must find every one of them.

macro_rules! mutations {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One rule that is wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutation { $($(#[$doc])* $name,)* }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

mutations! {
    // Precedence, line by line.
    /// `enforcement: Override` is `Default`.
    OverrideIgnored,
    /// Among overrides the inner scope comes first.
    InnerOverrideFirst,
    /// A route rule is no closer than its route.
    RuleAsRoute,
    /// A route is no closer than its Service.
    RouteAsService,
    /// A name is no closer than labels.
    NameAsSelector,
    /// Labels are no closer than all of a namespace.
    SelectorAsNamespace,
    /// A namespace is no closer than its workspace.
    NamespaceAsWorkspace,
    /// A workspace is no closer than the mesh.
    WorkspaceAsMesh,
    /// With and without `from` are alike.
    FromNotCloser,
    /// `from` applies to everybody.
    FromForEverybody,
    /// The lower `priority` comes first.
    LowPriorityFirst,
    /// The later name comes first.
    LaterNameFirst,
    /// `defaults` come before policies.
    DefaultsFirst,
    /// `defaults` of the Mesh come before those of the Workspace.
    MeshDefaultsFirst,
    /// What a rule of a route says itself does not count.
    RouteOwnIgnored,
    /// The first policy erases what it does not say itself.
    WholePolicy,
    /// 0 is as if it were absent.
    ZeroIsAbsent,
    /// `on` and `codes` come from different policies.
    OnApartFromCodes,
    /// `nonIdempotent` and `methods` come from different policies.
    MethodsApart,
    /// The parts of `backoff` come from different policies.
    BackoffApart,
    /// The parts of `budget` come from different policies.
    BudgetApart,
    /// `order` and `orders` come from different policies.
    OrdersApart,
    /// The backend, not the parent, gives retry and timeout.
    BackendGivesRetry,
    /// The parent, not the backend, gives failover.
    ParentGivesFailover,
    /// A policy reaches beyond its scope.
    ScopeIgnored,
    // The algebra of AccessPolicy.
    /// An Allow that matches comes before a Deny.
    AllowFirst,
    /// A Deny does nothing.
    DenyIgnored,
    /// `Audit` blocks.
    AuditBlocks,
    /// An Allow in `Audit` mode triggers the implicit denial.
    AuditTriggersDenial,
    /// `Audit` is not told.
    AuditSilent,
    /// An Allow that applies and does not match denies nothing.
    NoImplicitDenial,
    /// `defaultAccess` is always `Authenticated`.
    DefaultAllows,
    /// `Authenticated` lets those in that have no certificate.
    DefaultForUnauthenticated,
    /// Isolation does nothing.
    IsolationIgnored,
    /// An importer may call every service.
    ImporterCallsAll,
    /// An export alone is enough.
    ImportNotNeeded,
    /// An import alone is enough.
    ExportNotNeeded,
    /// A contested namespace is one of no workspace.
    ContestedIsUnclaimed,
    /// A bare service account means any namespace.
    BareAccountAnywhere,
    /// A bare service account always means the policy's namespace.
    BareAccountAtHome,
    /// An absent `from` in a Deny means authenticated peers.
    DenyNeedsIdentity,
    /// An absent `from` in an Allow means everybody.
    AllowForEverybody,
    /// Names are of any trust domain.
    AnyTrustDomain,
    /// `except` does nothing.
    ExceptIgnored,
    /// One field of an entry of `from` is enough.
    AnyFieldOfFrom,
    /// One field of an entry of `to` is enough.
    AnyFieldOfTo,
    /// A policy without a valid version does nothing.
    BrokenIgnored,
    /// A policy without a valid version denies even in `Audit` mode.
    BrokenAuditBlocks,
    /// The last good version does not hold.
    LastGoodIgnored,
    /// A Deny that cannot be evaluated lets pass.
    UnknownDenyPasses,
    /// A policy on a Service covers every port of its workloads.
    ServiceCoversAllPorts,
    /// Policies of one service only count.
    FirstServiceOnly,
    // Failures made on purpose.
    /// A fault that ended holds.
    EndedFaults,
    /// The first FaultPolicy erases what it does not say itself.
    WholeFaultPolicy,
    // Rates of requests.
    /// The limits of all policies of a service hold, not those of the first.
    RatesAddUp,
    /// Limits of a service hold on every port of its workloads.
    RateOnEveryPort,
    /// Limits of one service only hold.
    FirstServiceLimits,
    // Routes.
    /// An exact path comes after prefixes.
    ExactLast,
    /// The shorter prefix comes first.
    ShortPrefixFirst,
    /// A match with a method is no closer.
    MethodNotCloser,
    /// More headers are no closer.
    HeadersNotCloser,
    /// More query parameters are no closer.
    QueryNotCloser,
    /// The later route comes first.
    LaterRouteFirst,
    /// The later rule comes first.
    LaterRuleFirst,
    /// A prefix is one of text, not of segments.
    PrefixOfText,
    /// The producer's routes come before the consumer's.
    ProducerFirst,
    /// A consumer's route holds for everybody.
    ConsumerForEverybody,
    /// What no rule matches goes to the service itself.
    UnmatchedIsDirect,
    /// Requests that are not gRPC follow GRPCRoutes.
    PlainFollowsGrpc,
    /// GRPCRoutes refuse with statuses of HTTP.
    GrpcRefusedInHttp,
    /// Connections follow no route.
    ConnectionsUnrouted,
    /// A TCPRoute counts at a port of HTTP.
    TcpRouteAtHttp,
    /// HTTPRoutes count beside GRPCRoutes.
    HttpBesideGrpc,
    /// A match of a GRPCRoute with a method is no closer.
    GrpcMethodNotCloser,
    /// A backend that does not resolve is left out.
    BrokenLeftOut,
    /// A backend of weight 0 serves.
    ZeroWeightServes,
    // Failover.
    /// `same` means nothing.
    SameIsAnywhere,
    /// The least specific of `orders` wins.
    LeastSpecificOrder,
    /// Weights inside a step do nothing.
    PlaceWeightIgnored,
    /// A step keeps all of its share until its last endpoint is gone.
    SpillIgnored,
    /// The unready do not count among the endpoints of a step.
    UnreadyNotCounted,
    /// Another Service in the order is left out.
    FallbackIgnored,
    /// The unreachable are used.
    UnreachableUsed,
    /// The ejected are used while others are well.
    EjectedUsed,
    /// `whenNoneHealthy` is always `Any`.
    NoneHealthyIsAny,
    /// `maxPercent` does not bound ejection.
    EjectUnbounded,
    /// A further try may go where an earlier one went.
    FurtherRepeats,
    /// A third try stays in its step.
    ThirdStays,
}
