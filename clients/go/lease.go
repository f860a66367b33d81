package registry

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	registryv1 "nexuspro.io/registry/ose/registry/v1"
)

// leastPatience is how long an answer to a renewal is waited for at least.
const leastPatience = time.Second

// KeptLease is a lease that is kept alive in the background; see [Client.KeepLease].
type KeptLease struct {
	client       *Client
	onLost       func(context.Context, *registryv1.Lease)
	keepEntities bool
	stop         context.CancelFunc
	stopped      chan struct{}

	mu      sync.Mutex
	lease   *registryv1.Lease
	reports map[string]registryv1.HealthStatus
	renewed time.Time
	lost    bool
}

// LeaseOption changes how a lease is kept.
type LeaseOption func(*KeptLease)

// OnLost is called when the lease was found to have expired, before another one is granted: it may
// create anew what was removed.
func OnLost(tell func(context.Context, *registryv1.Lease)) LeaseOption {
	return func(k *KeptLease) { k.onLost = tell }
}

// KeepEntities leaves the entities as they are when the lease is released.
func KeepEntities() LeaseOption {
	return func(k *KeptLease) { k.keepEntities = true }
}

// KeepLease grants a lease and renews it three times within its ttl, until [KeptLease.Release] or the
// end of ctx; a lease that is not released expires by itself.
//
// One that has expired all the same, because the registry was away from here for too long or somebody
// revoked it, is granted anew under its id, with those of its entities that are there. Those that are
// unhealthy then are reported as [KeptLease.Report] did last, else healthy.
func (c *Client) KeepLease(
	ctx context.Context, lease *registryv1.Lease, opts ...LeaseOption,
) (*KeptLease, error) {
	sent := time.Now()
	granted, err := c.Leases.GrantLease(ctx, &registryv1.GrantLeaseRequest{Lease: lease})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	kept := &KeptLease{
		client: c, lease: granted, renewed: sent, stop: stop, stopped: make(chan struct{}),
		reports: map[string]registryv1.HealthStatus{},
	}
	for _, option := range opts {
		option(kept)
	}
	go kept.renew(ctx)
	return kept, nil
}

// ID is the lease's id; it stays when the lease is granted anew.
func (k *KeptLease) ID() string { return k.now().GetId() }

// EntityIDs has the ids of its entities, as it was granted or changed last.
func (k *KeptLease) EntityIDs() []string { return slices.Clone(k.now().GetEntityIds()) }

// Remaining is how long it lasts for certain if the registry is not reached any more: 0 while it is
// known to have expired, until it is granted anew.
func (k *KeptLease) Remaining() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lost {
		return 0
	}
	return max(0, time.Until(k.renewed.Add(k.lease.GetTtl().AsDuration())))
}

// Attach adds entities to it. FAILED_PRECONDITION if one is not there.
func (k *KeptLease) Attach(ctx context.Context, entityIDs ...string) error {
	return k.change(ctx, &registryv1.AttachToLeaseRequest{Id: k.ID(), EntityIds: entityIDs})
}

// Detach takes entities out of it.
func (k *KeptLease) Detach(ctx context.Context, entityIDs ...string) error {
	return k.change(ctx, &registryv1.AttachToLeaseRequest{Id: k.ID(), DetachIds: entityIDs})
}

// Report tells how its entities are: those that are named, else all of them.
func (k *KeptLease) Report(
	ctx context.Context, health registryv1.HealthStatus, entityIDs ...string,
) error {
	if len(entityIDs) == 0 {
		entityIDs = k.EntityIDs()
	}
	reports := make(map[string]registryv1.HealthStatus, len(entityIDs))
	for _, id := range entityIDs {
		reports[id] = health
	}
	k.mu.Lock()
	maps.Copy(k.reports, reports)
	k.mu.Unlock()
	_, err := k.client.Leases.RenewLease(
		ctx, &registryv1.RenewLeaseRequest{Id: k.ID(), Reports: reports},
	)
	return err
}

// Release ends the renewals and revokes the lease, as if it had expired: its entities are marked or
// removed. One that has expired already is no error. On any other error the lease expires by itself.
func (k *KeptLease) Release(ctx context.Context) error {
	k.stop()
	<-k.stopped
	_, err := k.client.Leases.RevokeLease(
		ctx, &registryv1.RevokeLeaseRequest{Id: k.ID(), KeepEntities: k.keepEntities},
	)
	if isCode(err, codes.NotFound) {
		return nil
	}
	return err
}

func (k *KeptLease) change(ctx context.Context, request *registryv1.AttachToLeaseRequest) error {
	lease, err := k.client.Leases.AttachToLease(ctx, request)
	if err == nil {
		k.mu.Lock()
		k.lease = lease
		k.mu.Unlock()
	}
	return err
}

func (k *KeptLease) now() *registryv1.Lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lease
}

func (k *KeptLease) interval() time.Duration { return k.now().GetTtl().AsDuration() / 3 }

// renew keeps the lease alive until ctx ends.
func (k *KeptLease) renew(ctx context.Context) {
	defer close(k.stopped)
	failures := outage{policy: k.client.retry}
	for ctx.Err() == nil {
		if err := k.renewals(ctx, &failures); err != nil && failures.failed(ctx, err) != nil {
			return
		}
	}
}

// renewals renews over one stream, until it breaks or the lease is lost and granted anew.
func (k *KeptLease) renewals(ctx context.Context, failures *outage) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := k.client.Leases.KeepAlive(ctx)
	if err != nil {
		return err
	}
	for {
		// Not at the same moment as all others, and at once if the time has passed.
		k.mu.Lock()
		due := k.renewed.Add(time.Duration(
			float64(k.lease.GetTtl().AsDuration()) / 3 * (0.8 + 0.2*rand.Float64()),
		))
		k.mu.Unlock()
		if err := sleep(ctx, max(0, time.Until(due))); err != nil {
			return nil
		}
		sent := time.Now()
		patience := time.AfterFunc(max(k.interval(), leastPatience), func() {
			cancel(unavailable("nothing was heard of the server in time"))
		})
		// Of a stream that has ended, reading tells why.
		_ = stream.Send(&registryv1.KeepAliveRequest{Ids: []string{k.ID()}})
		answer, err := stream.Recv()
		patience.Stop()
		if err != nil {
			return endOf(ctx, err)
		}
		failures.over()
		if len(answer.GetMissing()) > 0 {
			return k.regain(ctx)
		}
		k.mu.Lock()
		k.renewed = sent
		k.mu.Unlock()
	}
}

// regain grants the lease anew, until that works or ctx ends.
func (k *KeptLease) regain(ctx context.Context) error {
	k.mu.Lock()
	k.lost = true
	k.mu.Unlock()
	if k.onLost != nil {
		k.onLost(ctx, k.now())
	}
	failures := outage{policy: k.client.retry}
	for {
		sent := time.Now()
		granted, err := k.grantAnew(ctx)
		if err == nil {
			k.mu.Lock()
			k.lease, k.renewed, k.lost = granted, sent, false
			k.mu.Unlock()
			return nil
		}
		if err := failures.failed(ctx, err); err != nil {
			return err
		}
	}
}

func (k *KeptLease) grantAnew(ctx context.Context) (*registryv1.Lease, error) {
	wanted := proto.CloneOf(k.now())
	var found []*registryv1.Entity
	if len(wanted.GetEntityIds()) > 0 {
		batch, err := k.client.Entities.BatchGetEntities(
			ctx, &registryv1.BatchGetEntitiesRequest{Ids: wanted.GetEntityIds()},
		)
		if err != nil {
			return nil, err
		}
		found = batch.GetEntities()
	}
	wanted.EntityIds = nil
	reports := map[string]registryv1.HealthStatus{}
	for _, entity := range found {
		wanted.EntityIds = append(wanted.EntityIds, entity.GetId())
		// What the expiry may have marked.
		if entity.GetHealth() == registryv1.HealthStatus_HEALTH_STATUS_UNHEALTHY {
			reports[entity.GetId()] = k.reported(entity.GetId())
		}
	}
	granted, err := k.client.Leases.GrantLease(ctx, &registryv1.GrantLeaseRequest{Lease: wanted})
	if isCode(err, codes.AlreadyExists) {
		// As if an earlier attempt had come through, whose answer has not.
		granted, err = k.client.Leases.GetLease(ctx, &registryv1.GetLeaseRequest{Id: wanted.GetId()})
	}
	if err == nil && len(reports) > 0 {
		_, err = k.client.Leases.RenewLease(
			ctx, &registryv1.RenewLeaseRequest{Id: wanted.GetId(), Reports: reports},
		)
	}
	return granted, err
}

// reported is how an entity was reported last.
func (k *KeptLease) reported(id string) registryv1.HealthStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	if health, told := k.reports[id]; told {
		return health
	}
	return registryv1.HealthStatus_HEALTH_STATUS_HEALTHY
}

func isCode(err error, code codes.Code) bool {
	failed := (*Error)(nil)
	return errors.As(err, &failed) && failed.Code == code
}
