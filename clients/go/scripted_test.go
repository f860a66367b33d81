package registry_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nexuspro.io/registry"
	registryv1 "nexuspro.io/registry/ose/registry/v1"
)

// A server whose failures are scripted: what a real one cannot be made to do at the right moment.

var quick = registry.RetryPolicy{
	MaxAttempts: 4, InitialBackoff: time.Millisecond, MaxBackoff: 2 * time.Millisecond, Multiplier: 2,
}

// connection is what one watch stream does.
type connection func(*registryv1.WatchRequest, grpc.ServerStreamingServer[registryv1.WatchResponse]) error

type scripted struct {
	registryv1.UnimplementedEntityServiceServer
	registryv1.UnimplementedLeaseServiceServer
	registryv1.UnimplementedWatchServiceServer

	mu          sync.Mutex
	connections []connection
	watches     []*registryv1.WatchRequest
	creates     []*registryv1.CreateEntityRequest
	failures    []error
	grants      []*registryv1.GrantLeaseRequest
	reports     []map[string]registryv1.HealthStatus
	revoked     []string
	missing     int // How many renewals are answered with "missing".
	renewals    int
}

func (s *scripted) Watch(
	request *registryv1.WatchRequest, stream grpc.ServerStreamingServer[registryv1.WatchResponse],
) error {
	s.mu.Lock()
	number := len(s.watches)
	s.watches = append(s.watches, request)
	s.mu.Unlock()
	if number < len(s.connections) {
		return s.connections[number](request, stream)
	}
	<-stream.Context().Done()
	return nil
}

func (s *scripted) ListEntities(
	context.Context, *registryv1.ListEntitiesRequest,
) (*registryv1.ListEntitiesResponse, error) {
	return &registryv1.ListEntitiesResponse{Revision: 41}, nil
}

func (s *scripted) BatchGetEntities(
	_ context.Context, request *registryv1.BatchGetEntitiesRequest,
) (*registryv1.BatchGetEntitiesResponse, error) {
	// All but the last are there, and marked.
	answer := &registryv1.BatchGetEntitiesResponse{}
	for _, id := range request.GetIds()[:len(request.GetIds())-1] {
		answer.Entities = append(answer.Entities, &registryv1.Entity{
			Id: id, Health: registryv1.HealthStatus_HEALTH_STATUS_UNHEALTHY,
		})
	}
	return answer, nil
}

func (s *scripted) CreateEntity(
	_ context.Context, request *registryv1.CreateEntityRequest,
) (*registryv1.Entity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.creates = append(s.creates, request)
	if len(s.failures) > 0 {
		err := s.failures[0]
		s.failures = s.failures[1:]
		return nil, err
	}
	return request.GetEntity(), nil
}

func (s *scripted) GrantLease(
	_ context.Context, request *registryv1.GrantLeaseRequest,
) (*registryv1.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants = append(s.grants, request)
	return request.GetLease(), nil
}

func (s *scripted) RenewLease(
	_ context.Context, request *registryv1.RenewLeaseRequest,
) (*registryv1.RenewLeaseResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports = append(s.reports, request.GetReports())
	return &registryv1.RenewLeaseResponse{}, nil
}

func (s *scripted) RevokeLease(
	_ context.Context, request *registryv1.RevokeLeaseRequest,
) (*registryv1.RevokeLeaseResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = append(s.revoked, request.GetId())
	return nil, refusal(codes.NotFound, "LEASE_NOT_FOUND")
}

func (s *scripted) KeepAlive(
	stream grpc.BidiStreamingServer[registryv1.KeepAliveRequest, registryv1.KeepAliveResponse],
) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.renewals++
		answer := &registryv1.KeepAliveResponse{Renewed: request.GetIds()}
		if s.missing > 0 {
			s.missing--
			answer = &registryv1.KeepAliveResponse{Missing: request.GetIds()}
		}
		breaks := s.renewals%2 == 0
		s.mu.Unlock()
		if err := stream.Send(answer); err != nil {
			return err
		}
		if breaks {
			return status.Error(codes.Unavailable, "a restart")
		}
	}
}

// start serves the script and answers a client of it.
func (s *scripted) start(t *testing.T, opts ...registry.Option) *registry.Client {
	t.Helper()
	return serve(t, func(server *grpc.Server) {
		registryv1.RegisterEntityServiceServer(server, s)
		registryv1.RegisterLeaseServiceServer(server, s)
		registryv1.RegisterWatchServiceServer(server, s)
	}, opts...)
}

// serve serves what is registered and answers a client of it.
func serve(t *testing.T, register func(*grpc.Server), opts ...registry.Option) *registry.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	opts = append([]registry.Option{registry.WithRetry(quick)}, opts...)
	client, err := registry.Dial(listener.Addr().String(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// refusal is an error as the registry makes it.
func refusal(code codes.Code, reason string) error {
	made, err := status.New(code, "because").WithDetails(
		&errdetails.ErrorInfo{
			Reason: reason, Domain: registry.Domain, Metadata: map[string]string{"id": "billing"},
		},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "entity.id", Description: "no spaces"},
		}},
	)
	if err != nil {
		panic(err)
	}
	return made.Err()
}
