package registry

import (
	"encoding/json"
	"math"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	registryv1 "nexuspro.io/registry/ose/registry/v1"
)

const (
	// Version is the client's version, and that of the server that it came with.
	Version = "0.1.0"
	// DefaultTarget is the server that is dialed when none is named.
	DefaultTarget = "localhost:50051"
	// TargetVariable is the environment variable that names another one.
	TargetVariable = "REGISTRY_SERVER"
)

// Client is a connection to a registry and the stubs of its services. Any number of goroutines may
// share it.
type Client struct {
	Admin         registryv1.AdminServiceClient
	Entities      registryv1.EntityServiceClient
	Features      registryv1.FeatureServiceClient
	Graph         registryv1.GraphServiceClient
	Health        registryv1.HealthServiceClient
	Leases        registryv1.LeaseServiceClient
	Plugins       registryv1.PluginServiceClient
	Registry      registryv1.RegistryServiceClient
	Relationships registryv1.RelationshipServiceClient
	Search        registryv1.SearchServiceClient
	// Changes is the stub of WatchService; [Client.Watch] is what to use.
	Changes registryv1.WatchServiceClient

	conn  *grpc.ClientConn
	retry RetryPolicy
}

// RetryPolicy says how calls that fail with UNAVAILABLE are repeated: with a backoff that grows, and
// jitter. Nothing else is ever repeated.
type RetryPolicy struct {
	// MaxAttempts is how often a call is made at most, the first time included; 1 means no retries.
	// Watches and leases go on for ever; see [GiveUpAfter].
	MaxAttempts int
	// InitialBackoff is the wait before the second attempt.
	InitialBackoff time.Duration
	// MaxBackoff is the longest wait before any attempt.
	MaxBackoff time.Duration
	// Multiplier is by how much the wait grows with every attempt.
	Multiplier float64
}

// DefaultRetryPolicy is the policy of a client that is given none.
var DefaultRetryPolicy = RetryPolicy{
	MaxAttempts: 5, InitialBackoff: 100 * time.Millisecond, MaxBackoff: 2 * time.Second, Multiplier: 2,
}

type options struct {
	credentials credentials.TransportCredentials
	timeout     time.Duration
	retry       RetryPolicy
	userAgent   string
	metadata    metadata.MD
	joining     *joining
	dial        []grpc.DialOption
}

// Option changes how a [Client] is made.
type Option func(*options)

// WithTransportCredentials sets the credentials of a TLS connection. Without them the connection is not
// encrypted.
func WithTransportCredentials(creds credentials.TransportCredentials) Option {
	return func(o *options) { o.credentials = creds }
}

// WithTimeout sets the deadline of unary calls whose context has none, retries included; 10 seconds
// without this option, none if it is 0.
func WithTimeout(timeout time.Duration) Option {
	return func(o *options) { o.timeout = timeout }
}

// WithRetry sets how calls that are UNAVAILABLE are repeated.
func WithRetry(policy RetryPolicy) Option {
	return func(o *options) { o.retry = policy }
}

// WithUserAgent sets what the server's logs call this client.
func WithUserAgent(userAgent string) Option {
	return func(o *options) { o.userAgent = userAgent }
}

// WithMetadata sends pairs of a key and a value with every call.
func WithMetadata(pairs ...string) Option {
	return func(o *options) { o.metadata = metadata.Join(o.metadata, metadata.Pairs(pairs...)) }
}

// WithCoalescing joins the calls of the stubs that are made at the same time: GetEntity into BatchGetEntities,
// and CreateEntity, UpdateEntity, CreateRelationship and UpdateRelationship into a Write whose mutations are
// independent. What is called while two calls of its kind are under way is gathered until one of them has
// returned. Answers, errors and deadlines are those of single calls.
//
// It pays from a few calls at once on. Calls are of one kind if they carry the same metadata, and reads if they
// read in the same way. A call with options of its own ([grpc.CallOption]), a write with an idempotency key
// and a dry run are made alone. What a batch is called with is of no caller's context but its metadata: see to
// it if interceptors or credentials of [WithDialOptions] look for other values there.
func WithCoalescing() Option {
	return func(o *options) { o.joining = newJoining() }
}

// WithDialOptions passes options on to gRPC; they come after the client's own.
func WithDialOptions(dial ...grpc.DialOption) Option {
	return func(o *options) { o.dial = append(o.dial, dial...) }
}

// Dial makes a client of the registry at target: host:port, or any name that gRPC resolves. If it is
// empty, that is $REGISTRY_SERVER, else localhost:50051. The connection is made when it is first needed
// and made again when it breaks: an error is one of the arguments.
func Dial(target string, opts ...Option) (*Client, error) {
	chosen := options{
		credentials: insecure.NewCredentials(),
		timeout:     10 * time.Second,
		retry:       DefaultRetryPolicy,
		userAgent:   "ose-registry-go/" + Version,
	}
	for _, option := range opts {
		option(&chosen)
	}
	if target == "" {
		target = os.Getenv(TargetVariable)
	}
	if target == "" {
		target = DefaultTarget
	}
	conn, err := grpc.NewClient(target, dialOptions(chosen)...)
	if err != nil {
		return nil, err
	}
	return newClient(conn, chosen.retry), nil
}

func newClient(conn *grpc.ClientConn, retry RetryPolicy) *Client {
	return &Client{
		Admin:         registryv1.NewAdminServiceClient(conn),
		Entities:      registryv1.NewEntityServiceClient(conn),
		Features:      registryv1.NewFeatureServiceClient(conn),
		Graph:         registryv1.NewGraphServiceClient(conn),
		Health:        registryv1.NewHealthServiceClient(conn),
		Leases:        registryv1.NewLeaseServiceClient(conn),
		Plugins:       registryv1.NewPluginServiceClient(conn),
		Registry:      registryv1.NewRegistryServiceClient(conn),
		Relationships: registryv1.NewRelationshipServiceClient(conn),
		Search:        registryv1.NewSearchServiceClient(conn),
		Changes:       registryv1.NewWatchServiceClient(conn),
		conn:          conn,
		retry:         retry,
	}
}

// Conn is the connection, for stubs of other services, such as grpc.health.v1.
func (c *Client) Conn() *grpc.ClientConn { return c.conn }

// Close ends the connection and all calls on it.
func (c *Client) Close() error { return c.conn.Close() }

// maxRetryBytes is how large a request may be that is kept to be sent again: more than the server takes.
const maxRetryBytes = 64 << 20

func dialOptions(chosen options) []grpc.DialOption {
	calls := calls{
		timeout: chosen.timeout, retries: chosen.retry.MaxAttempts > 1, metadata: chosen.metadata,
	}
	unary := calls.unary
	if chosen.joining != nil {
		chosen.joining.calls = calls
		unary = chosen.joining.unary
	}
	return append([]grpc.DialOption{
		grpc.WithTransportCredentials(chosen.credentials),
		grpc.WithUserAgent(chosen.userAgent),
		grpc.WithChainUnaryInterceptor(unary),
		grpc.WithChainStreamInterceptor(calls.stream),
		grpc.WithDefaultServiceConfig(serviceConfig(chosen.retry)),
		grpc.WithMaxCallAttempts(max(chosen.retry.MaxAttempts, 2)),
		grpc.WithDefaultCallOptions(
			// The server bounds what it sends; a limit here would only cut answers that were asked for.
			grpc.MaxCallRecvMsgSize(math.MaxInt32),
			grpc.MaxCallSendMsgSize(math.MaxInt32),
			grpc.MaxRetryRPCBufferSize(maxRetryBytes),
		),
		// A peer that vanished is noticed within 40 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 30 * time.Second, Timeout: 10 * time.Second,
		}),
		// After a restart of the server be back soon: gRPC's own reconnects start at 1 s, up to 120.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second,
			},
			MinConnectTimeout: 5 * time.Second,
		}),
	}, chosen.dial...)
}

type methodName struct {
	Service string `json:"service"`
	Method  string `json:"method"`
}

type retryConfig struct {
	MaxAttempts          int      `json:"maxAttempts"`
	InitialBackoff       string   `json:"initialBackoff"`
	MaxBackoff           string   `json:"maxBackoff"`
	BackoffMultiplier    float64  `json:"backoffMultiplier"`
	RetryableStatusCodes []string `json:"retryableStatusCodes"`
}

type methodConfig struct {
	Name        []methodName `json:"name"`
	RetryPolicy retryConfig  `json:"retryPolicy"`
}

// serviceConfig has gRPC repeat the calls that may be repeated.
func serviceConfig(policy RetryPolicy) string {
	if policy.MaxAttempts < 2 {
		return "{}"
	}
	config := map[string][]methodConfig{"methodConfig": {{
		Name: repeatable(),
		RetryPolicy: retryConfig{
			MaxAttempts:          policy.MaxAttempts,
			InitialBackoff:       seconds(policy.InitialBackoff),
			MaxBackoff:           seconds(policy.MaxBackoff),
			BackoffMultiplier:    policy.Multiplier,
			RetryableStatusCodes: []string{"UNAVAILABLE"},
		},
	}}}
	text, err := json.Marshal(config)
	if err != nil {
		panic(err) // Strings and numbers have a JSON form.
	}
	return string(text)
}
