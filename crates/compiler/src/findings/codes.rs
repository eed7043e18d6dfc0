//! The table of all findings: number, severity, title, cause and fix.

use tacit_model::finding::Severity;

use super::{Code, Shown};

/// An example is a file named after its code; a circumstance is said in the table.
macro_rules! shown {
    ($code:literal) => {
        Shown::Example(include_str!(concat!("../../findings/", $code, ".yaml")))
    };
    ($code:literal, $why:literal) => {
        Shown::Circumstance($why)
    };
}

macro_rules! codes {
    ($(
        $name:ident = $code:literal, $severity:ident, $title:literal, $cause:literal, $fix:literal
        $(, circumstance $why:literal)?;
    )*) => {
        $(#[doc = $title] pub const $name: Code = Code {
            code: $code,
            severity: Severity::$severity,
            title: $title,
            cause: $cause,
            fix: $fix,
            shown: shown!($code $(, $why)?),
        };)*

        /// All codes, by number.
        pub const CODES: &[Code] = &[$($name),*];
    };
}

codes! {
    NOT_TEXT = "TCT1001", Error, "Not text",
        "The file is not UTF-8 text, or has a carriage return without a line feed.",
        "Save it as UTF-8 with LF or CR LF at the ends of lines, or move it out of the directory.",
        circumstance "bytes that are no text cannot be shown as text.";
    NOT_YAML = "TCT1002", Error, "Not YAML",
        "The document is not YAML, or uses a part of YAML that is not supported.",
        "Correct the syntax at the position.";
    TOO_LARGE = "TCT1003", Error, "Too large",
        "A file, a document or a list is over its limit.",
        "Split it.";
    UNKNOWN_FIELD = "TCT1004", Error, "Unknown field",
        "The kind has no such field.",
        "Correct the name; the message suggests the nearest one.";
    UNKNOWN_KIND = "TCT1005", Error, "Unknown kind",
        "There is no such kind or version.",
        "Correct kind and apiVersion.";
    MISSING_FIELD = "TCT1006", Error, "Missing field",
        "A field that must be written is not.",
        "Add the field.";
    WRONG_TYPE = "TCT1007", Error, "Wrong type",
        "A list where text is expected, and the like.",
        "Write the value in the type that the message names.";
    WRONG_VALUE = "TCT1008", Error, "Wrong value",
        "The value has the right type, but there is no such value.",
        "Write one of the values that the message names.";
    DUPLICATE_KEY = "TCT1009", Error, "Field written twice",
        "The same field stands twice in one mapping.",
        "Remove one of the two.";
    DUPLICATE_OBJECT = "TCT1011", Error, "Object written twice",
        "Two objects have the same kind, namespace and name. Neither counts.",
        "Remove or rename one of the two.";
    BAD_NAME = "TCT1012", Error, "Invalid name",
        "A name is not one that DNS and certificates can carry.",
        "Use lower-case letters, digits and '-'.";
    SECOND_MESH = "TCT1013", Error, "More than one Mesh",
        "A mesh has one Mesh object. The one named `default` counts, else the first by name.",
        "Remove the others.";
    NO_TARGET = "TCT1101", Error, "No target",
        "A policy must say what it applies to.",
        "Add targetRefs, targetSelectors or targetAll: {}.";
    TWO_TARGETS = "TCT1102", Error, "Two sorts of targets",
        "Only one of targetRefs, targetSelectors and targetAll may be written.",
        "Keep one; write a second policy for the others.";
    EMPTY_TARGET = "TCT1103", Error, "Empty target",
        "An empty list or selector would mean either nothing or everything.",
        "Name something, or write targetAll: {} for everything in scope.";
    TARGET_NOT_FOUND = "TCT1104", Error, "Target not found",
        "The policy names an object that does not exist.",
        "Correct the name, or create the object.";
    TARGET_NOT_PERMITTED = "TCT1105", Error, "Target not permitted",
        "The target is outside the policy's scope.",
        "Move the policy to the target's namespace, to the home of its Workspace, or to the root \
         namespace of the mesh.";
    TARGET_KIND = "TCT1106", Error, "Kind of target",
        "The kind of policy cannot apply to this kind of object.",
        "Choose a target of a kind that the message names.";
    SELECTS_NOTHING = "TCT1107", Info, "Selector matches nothing",
        "No object in the policy's scope has the labels now.",
        "Nothing, if objects will get the labels later.";
    NOT_SUPPORTED = "TCT1201", Error, "Not supported by this version",
        "This version does not enforce the field or value, so it refuses the object instead of \
         ignoring it.",
        "Remove the field.";
    OUT_OF_RANGE = "TCT1301", Error, "Out of range",
        "The number or time is outside its limits.",
        "Choose a value inside the limits that the message names.";
    CONTRADICTION = "TCT1302", Error, "Contradictory values",
        "Two values of the object cannot both hold.",
        "Change one of the two.";
    EMPTY_LIST = "TCT1303", Error, "Empty list",
        "An empty list would mean either nothing or everything. Absent means any.",
        "Name something, or remove the field.";
    BAD_TEXT = "TCT1304", Error, "Not a value of this kind",
        "The text is not an address range, path, method, host or place.",
        "Write it as the message says.";
    SAYS_NOTHING = "TCT1305", Warning, "Policy without content",
        "The policy sets no field, so it changes nothing.",
        "Add what it should set, or remove it.";
    NO_EFFECT = "TCT1306", Warning, "Field without effect",
        "Another value of the same object makes the field meaningless.",
        "Change or remove one of the two.";
    NOT_FOR_KIND = "TCT1307", Error, "Field not for this kind",
        "Access policies combine; they do not override each other.",
        "Remove the field.";
    LISTED_TWICE = "TCT1308", Info, "Listed twice",
        "An entry of a list stands in it before. The second changes nothing.",
        "Remove one of the two, or correct the one that should be another.";
    TRIES_DO_NOT_FIT = "TCT1311", Warning, "No time for all tries",
        "If each try takes as long as `perTry` lets it, `request` is over before all of the tries \
         were made in full.",
        "Make `request` longer, or `perTry` shorter, or allow fewer `attempts`.";
    NOT_REPEATED_WHEN_LATE = "TCT1312", Info, "A late try is not repeated",
        "There are further tries, and a limit for each try, but a try that reaches that limit \
         ends the request, since `on` does not name that outcome. Only a try of which nothing was \
         sent is repeated anyway.",
        "Add DeadlineExceeded to `on`, if late tries should be repeated.";
    NEVER_REPEATED = "TCT1313", Warning, "Further tries that are never made",
        "`attempts` allows further tries, and another field of the policy leaves none. Only a \
         request that never reached the application is repeated, as without any policy.",
        "Give the budget room and `on` outcomes, or write attempts: 0.";
    CONNECT_TOO_LONG = "TCT1314", Warning, "Connecting may take all the time",
        "Connecting is part of the request. An endpoint that does not answer uses up all of its \
         time, and no other endpoint is tried.",
        "Choose a `connect` that is much shorter than `request`.";
    REQUESTS_ON_BYTES = "TCT1315", Warning, "Request fields where there are no requests",
        "The services that the policy names have no port that is known to be HTTP. Their \
         connections are passed on as bytes, in which no request can be timed or repeated.",
        "Give the port an appProtocol of http, or remove the fields.";
    OPAQUE_RATE = "TCT1316", Warning, "Rate where there are no requests",
        "A Service that the policy applies to has a port that is not known to be HTTP. Its \
         connections are passed on as bytes, in which no requests can be counted: there, the \
         policy limits nothing.",
        "Give the port an appProtocol of http, or let the policy apply to other Services.";
    OPAQUE_FAULT = "TCT1317", Warning, "Fault where there are no requests",
        "A Service that the policy applies to has a port that is not known to be HTTP. Its \
         connections are passed on as bytes, in which there are no requests to delay or abort: \
         there, the policy does nothing.",
        "Give the port an appProtocol of http, or let the policy apply to other Services.";
    FAULT_ENDED = "TCT1318", Info, "Fault that ended",
        "The time until which the policy makes failures is over: it says nothing any more.",
        "Remove the policy, or choose a later time.";
    OPAQUE_PORT = "TCT1401", Error, "Request conditions on an opaque port",
        "Methods, paths and hosts can only be seen on ports whose protocol is known to be HTTP.",
        "Give the port an appProtocol of http, or list it in `ports` of the rule.";
    OPAQUE_PORT_IN_SCOPE = "TCT1402", Warning, "Request conditions meet an opaque port",
        "The policy covers a port that is not known to be HTTP. There, an Allow with conditions \
         on requests never matches, and a Deny with such conditions always does.",
        "Give the port an appProtocol of http, or list `ports` in the rule.";
    SERVICE_PORT_LISTED = "TCT1403", Warning, "Port of the service, not of the workload",
        "`ports` of an access rule are ports of the workload. The number is only a port of the \
         Service.",
        "List the target port.";
    BROKEN_ACCESS = "TCT1404", Error, "Access denied until it is repaired",
        "An AccessPolicy has no valid version, and an access rule that is not understood denies.",
        "Repair the policy, or delete it.";
    UNKNOWN_WORKSPACE = "TCT1405", Warning, "Unknown workspace",
        "The rule names a Workspace that does not exist; nobody is in it.",
        "Correct the name, or create the Workspace.";
    RULE_COVERED = "TCT1406", Warning, "Rule that adds nothing",
        "Another rule of the policy matches every call that this one matches, so its conditions \
         do not narrow anything.",
        "Remove the narrower rule, or narrow the other one.";
    TAKEN_BACK = "TCT1407", Warning, "Allowed and denied",
        "Wherever the policy applies, a Deny matches every call that the rule allows, and a Deny \
         always wins.",
        "Remove the rule, or narrow the Deny.";
    DENIES_ALL = "TCT1408", Warning, "Deny of everything",
        "The rule names no caller and no operation, so it matches every call to its targets, \
         those from their own namespace and without a certificate, too.",
        "Name in `from` or `to` what is to be denied. To let only some in, write an Allow that \
         names them.";
    NOTHING_IN_NAMESPACE = "TCT1409", Info, "Namespace without objects",
        "The policy names callers of a namespace in which there is no object now.",
        "Correct the name. Nothing, if objects will come.";
    NOBODY_RUNS_AS = "TCT1410", Info, "Service account that nobody has",
        "Workloads run in the namespace, but none as the service account that the policy names. A \
         bare name means the `namespaces` of its entry, else the namespace of the policy.",
        "Correct the name, or write NAMESPACE/NAME. Nothing, if workloads will come.";
    ISOLATION_DENIES = "TCT1411", Warning, "Allowed, but isolated",
        "The rule allows callers that the Strict isolation of the targets' Workspace denies \
         before any rule is asked.",
        "Let the callers' Workspace import the service and the targets' Workspace export it, or \
         remove the callers.";
    EXCEPT_OUTSIDE = "TCT1412", Warning, "Exception outside of the ranges",
        "`except` takes addresses away from `cidrs`, and these are not in there.",
        "Correct the range, or remove it.";
    MATCHES_NOBODY = "TCT1413", Warning, "Entry that matches nobody",
        "The fields of one entry all apply, and these exclude each other.",
        "Change one of the two fields, or write two entries.";
    OPEN_BY_DEFAULT = "TCT1414", Info, "Open by default",
        "Some services have an Allow that names their callers, and others have none. Mesh does not \
         write `defaultAccess`, so those others let in every caller that has a certificate.",
        "Write `defaultAccess: Deny` in Mesh, and an Allow for each of them that is called. If \
         they are meant to be open, write `defaultAccess: Authenticated`.";
    ADDRESS_TAKEN = "TCT1501", Error, "Address taken",
        "Another object has the same address.",
        "Choose another address, or leave it out to have one assigned.";
    ADDRESS_RANGE = "TCT1502", Error, "Address outside its range",
        "The address is not where addresses of this kind are.",
        "Choose one inside the range that the message names, or leave it out.";
    RANGE_FULL = "TCT1503", Error, "No address left",
        "Every address of the range is given away.",
        "Make the range larger: serviceAddresses or workloadAddresses of Mesh.",
        circumstance "the smallest range holds 256 addresses, so it takes hundreds of objects.";
    NODE_UNKNOWN = "TCT1504", Info, "Node not enrolled",
        "The workload waits for the node that it names, which has not joined yet.",
        "Start the node, or correct spec.node.";
    PROTOCOLS_DIFFER = "TCT1505", Warning, "Protocols differ",
        "A Service and a workload behind it declare different protocols for one port. It is \
         treated as HTTP.",
        "Declare the same protocol at both.";
    NO_TARGET_PORT = "TCT1506", Warning, "Target port not there",
        "A Service means a port by name that a workload behind it does not declare.",
        "Add the port to the workload, or write its number as targetPort.";
    NOT_HOSTED = "TCT1507", Error, "Node may not host it",
        "The node that the workload names joined with a token that does not allow the workload's \
         identity. The workload is not in the mesh.",
        "Let another node run it, or join the node anew with a token that allows the identity \
         (tacit token --may-host).";
    NEARLY_SELECTS = "TCT1508", Warning, "Selector nearly matches",
        "The Service selects no workload, and a workload that no Service selects differs in one \
         label by a letter or two.",
        "Correct the selector, or the label of the workload.";
    PORT_NOT_DECLARED = "TCT1509", Warning, "Target port not declared",
        "Each workload behind the Service declares its ports, and none of them this one.",
        "Correct targetPort, or add the port to the workload.";
    NAME_AND_PROTOCOL = "TCT1510", Warning, "Port name and protocol differ",
        "The name of the port stands for one protocol, and appProtocol says another, which \
         counts.",
        "Change the name or appProtocol.";
    UNKNOWN_PROTOCOL = "TCT1511", Warning, "Unknown spelling of a protocol",
        "appProtocol looks like HTTP, but is no value that means it, so the port is passed on as \
         bytes: without routing, retries, and conditions on requests.",
        "Write http, http2, grpc, kubernetes.io/h2c or kubernetes.io/ws.";
    FALLBACK = "TCT1521", Error, "Fallback service not usable",
        "A step of a FailoverPolicy names a service that does not exist, is not permitted, or is \
         the service itself.",
        "Name another service.";
    PLACE_EMPTY = "TCT1522", Warning, "Place without endpoints",
        "A step names a place in which the service has no endpoint now.",
        "Check the spelling of the place, or start an endpoint there.";
    STEP_ADDS_NOTHING = "TCT1523", Warning, "Step that adds nothing",
        "Steps are tried top down, and all that this one names is in steps above it.",
        "Put the narrower step first, or remove it.";
    WEIGHT_ALONE = "TCT1524", Warning, "Weight without a second place",
        "Weights share the traffic of one step among its places, and this step has one place. \
         They do not share between steps.",
        "Put the places that should share into one step, or remove the weight.";
    EJECTS_ALL = "TCT1525", Warning, "Everything may be ejected",
        "Errors of the application may take all endpoints out at once, and then no call is even \
         tried.",
        "Choose a smaller maxPercent, or whenNoneHealthy: Any.";
    ORDER_FOR_NOBODY = "TCT1526", Info, "Order for nobody",
        "An entry of `orders` is for clients in a place in which no workload is now.",
        "Correct the name of the place. Nothing, if workloads will come.";
    NOT_GRANTED = "TCT1601", Error, "Not granted",
        "No grant of the Workspace covers the change.",
        "Ask the administrator for the grant that the message names.";
    FIELD_NOT_GRANTED = "TCT1602", Error, "Field not granted",
        "A grant covers the change but for one field.",
        "Leave the field as it was, or ask for a grant that lists it.";
    TARGET_NOT_GRANTED = "TCT1603", Error, "Target not granted",
        "A grant covers the change but for one target.",
        "Choose a target with the labels that the grant names, or ask for a wider grant.";
    OVER_LIMIT = "TCT1604", Error, "Limit of a grant",
        "The object does not keep a limit of the grant.",
        "Keep to the rule that the message names.";
    BAD_GRANT = "TCT1605", Error, "Unusable grant",
        "A grant cannot mean anything as it is written.",
        "Correct the field.";
    CONTESTED = "TCT1611", Error, "Namespace claimed twice",
        "Two workspaces claim a namespace. It belongs to neither and is denied.",
        "Let one workspace claim it.";
    IMPORT = "TCT1612", Warning, "Import without export",
        "A workspace imports what does not exist or is not exported to it.",
        "Ask the owner of the other workspace for an export, or remove the import.";
    BAD_PATTERN = "TCT1613", Error, "Not a namespace or prefix",
        "Members are names of namespaces, or prefixes that end in `*`.",
        "Correct the pattern.";
    WORKSPACE_SAYS_NOTHING = "TCT1614", Error, "Empty list in a Workspace",
        "An empty list selects nothing.",
        "Name something, or remove the entry.";
    GRANT_ENDED = "TCT1615", Info, "Grant that ended",
        "The time until which the grant holds is over.",
        "Remove the grant, or choose a later time.";
    GRANT_TO_NOBODY = "TCT1616", Info, "Grant to nobody",
        "Mesh.subjects says who is who, and gives nobody this name.",
        "Correct the name, or add a subject to the Mesh.";
    OVERRIDDEN = "TCT1701", Info, "Overridden",
        "Every field of the policy is decided by policies that come first, for all its targets.",
        "Remove the policy, or give it what it needs to come first; see the table of precedence.";
    ROUTE_PARENT = "TCT1801", Error, "Parent of a route not found",
        "The route names a Service or a port of one that does not exist: it is not attached there.",
        "Correct the name or the port, or create the Service.";
    ROUTE_BACKEND = "TCT1802", Error, "Backend of a route not usable",
        "The Service or its port does not exist or is not HTTP. Requests that the rule would send \
         there are answered with 500.",
        "Correct the reference, or create the Service.";
    OPAQUE_ROUTE = "TCT1803", Warning, "Route at a port that is not HTTP",
        "Only requests on ports that are known to be HTTP follow a route.",
        "Give the port of the Service an appProtocol of http.";
    MATCH_TWICE = "TCT1804", Warning, "Match that comes too late",
        "An earlier rule of the route matches exactly the same requests, and the first one counts.",
        "Remove one of the two, or say what tells them apart.";
    NO_BACKEND = "TCT1805", Warning, "Rule without a backend",
        "A rule without a backend and a redirect answers each request that it matches with 404.",
        "Add backendRefs, or a RequestRedirect.";
    NO_WEIGHT = "TCT1806", Warning, "Only backends of weight 0",
        "A weight of 0 means no requests; if all have it, the rule answers 500.",
        "Give one of the backends a weight.";
    ROUTE_CONFLICT = "TCT1807", Error, "Route gives way to another kind",
        "At one port of a Service one kind of route of a namespace holds, and a GRPCRoute comes \
         before an HTTPRoute, which then does not hold there.",
        "Write one kind only, or attach each to a port of its own.";
    ROUTE_GIVES_PORT = "TCT1808", Warning, "Route gives way at a port",
        "A GRPCRoute of the same namespace holds at one of the ports that this route is for.",
        "Name the ports of both with `port`, if that is what is meant.";
    HTTP_UNDER_ROUTE = "TCT1809", Warning, "Route of connections at a port that is HTTP",
        "Only connections to ports that are not HTTP follow a TCPRoute: requests are routed one by \
         one.",
        "Write an HTTPRoute, or give the port of the Service an appProtocol of tcp.";
    OTHER_OWNER = "TCT1901", Error, "Object of another owner",
        "Each object is written either in the directory or over the API, and this one is written \
         in both.",
        "Change it where it is written, or delete it there first.",
        circumstance "it takes two writers, the watched directory and the API.";
    ISTIO_CANNOT = "TCT2001", Warning, "Istio cannot express it",
        "Istio's objects have nothing that says this. The translation leaves it out.",
        "Remove the field if Istio's behaviour, which the message names, is enough.",
        circumstance "only `tacit translate` makes it.";
    ISTIO_STRICTER = "TCT2002", Warning, "Stricter under Istio",
        "Istio cannot say exactly this, so the translation denies more than what is written.",
        "Write it as the message says, or add an AuthorizationPolicy by hand.",
        circumstance "only `tacit translate` makes it.";
    ISTIO_DIFFERS = "TCT2003", Warning, "Not the same under Istio",
        "Istio says nearly this, or only with a setting that is no object.",
        "Make the setting that the message names, or accept the difference.",
        circumstance "only `tacit translate` makes it.";
    ISTIO_ELSEWHERE = "TCT2004", Warning, "Set elsewhere under Istio",
        "What this field decides is decided outside of Istio's objects.",
        "Set it where the message says.",
        circumstance "only `tacit translate` makes it.";
    ISTIO_PODS = "TCT2005", Info, "Pods are not translated",
        "What a Workload declares is a pod, or a WorkloadEntry, under Istio.",
        "Nothing, if the pods are there.",
        circumstance "only `tacit translate` makes it.";
}
