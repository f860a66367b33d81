package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"nexuspro.io/registry"
	registryv1 "nexuspro.io/registry/ose/registry/v1"
)

func create(ctx context.Context, client *registry.Client, key string) error {
	_, err := client.Entities.CreateEntity(ctx, &registryv1.CreateEntityRequest{
		Entity: &registryv1.Entity{Id: "billing"}, IdempotencyKey: key,
	})
	return err
}

// A write that is UNAVAILABLE is made again, with the key of its first attempt.
func TestWritesAreRepeatedWithOneKey(t *testing.T) {
	gone := status.Error(codes.Unavailable, "a restart")
	server := &scripted{failures: []error{gone, gone}}
	if err := create(t.Context(), server.start(t), ""); err != nil {
		t.Fatal(err)
	}
	if len(server.creates) != 3 {
		t.Fatalf("%d attempts", len(server.creates))
	}
	first := server.creates[0].GetIdempotencyKey()
	for _, attempt := range server.creates {
		if key := attempt.GetIdempotencyKey(); len(key) < 20 || key != first {
			t.Errorf("the key %q, after %q", key, first)
		}
	}
}

// The caller's key is kept, and the caller's message is not touched.
func TestKeysOfTheCaller(t *testing.T) {
	server := &scripted{}
	client := server.start(t)
	if err := create(t.Context(), client, "mine"); err != nil {
		t.Fatal(err)
	}
	request := &registryv1.CreateEntityRequest{Entity: &registryv1.Entity{Id: "a"}, DryRun: true}
	for _, dry := range []bool{true, false} {
		request.DryRun = dry
		if _, err := client.Entities.CreateEntity(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	if request.GetIdempotencyKey() != "" {
		t.Error("the caller's message has a key")
	}
	keys := []string{}
	for _, one := range server.creates {
		keys = append(keys, one.GetIdempotencyKey())
	}
	if keys[0] != "mine" || keys[1] != "" || keys[2] == "" {
		t.Errorf("the keys were %q", keys)
	}
}

// Nothing but UNAVAILABLE is repeated, and that not more often than allowed, or not at all.
func TestWhatIsNotRepeated(t *testing.T) {
	gone := status.Error(codes.Unavailable, "a restart")
	for name, one := range map[string]struct {
		policy registry.RetryPolicy
		errs   []error
		calls  int
	}{
		"another code":   {quick, []error{refusal(codes.Aborted, "REVISION_MISMATCH")}, 1},
		"attempts":       {quick, slices.Repeat([]error{gone}, 9), 4},
		"no retries":     {registry.RetryPolicy{MaxAttempts: 1}, []error{gone}, 1},
		"more than five": {registry.RetryPolicy{7, 1e6, 1e6, 1}, slices.Repeat([]error{gone}, 9), 7},
	} {
		t.Run(name, func(t *testing.T) {
			server := &scripted{failures: one.errs}
			client := server.start(t, registry.WithRetry(one.policy))
			if err := create(t.Context(), client, ""); err == nil {
				t.Fatal("it worked")
			}
			if len(server.creates) != one.calls {
				t.Errorf("%d calls", len(server.creates))
			}
		})
	}
}

// A refusal is an *Error with all that the server said, also for gRPC's own tools.
func TestErrors(t *testing.T) {
	server := &scripted{failures: []error{refusal(codes.NotFound, "ENTITY_NOT_FOUND")}}
	err := fmt.Errorf("wrapped: %w", create(t.Context(), server.start(t), ""))
	var failed *registry.Error
	if !errors.As(err, &failed) {
		t.Fatalf("%T", err)
	}
	if failed.Reason != registryv1.ErrorReason_ERROR_REASON_ENTITY_NOT_FOUND ||
		failed.Metadata["id"] != "billing" || failed.Domain != registry.Domain ||
		failed.FieldViolations[0].Field != "entity.id" {
		t.Errorf("%+v", failed)
	}
	if status.Code(err) != codes.NotFound {
		t.Errorf("the code is %s", status.Code(err))
	}
	if text := "ENTITY_NOT_FOUND: because\n  entity.id: no spaces"; failed.Error() != text {
		t.Errorf("it says %q", failed)
	}
}

// A reason that this client is too old to know is there as text.
func TestUnknownReason(t *testing.T) {
	server := &scripted{failures: []error{refusal(codes.Aborted, "OF_NEXT_YEAR")}}
	var failed *registry.Error
	if err := create(t.Context(), server.start(t), ""); !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if failed.Reason != 0 || failed.ReasonText != "OF_NEXT_YEAR" {
		t.Errorf("%+v", failed)
	}
}

// A call without a deadline has the client's; the context's errors are found by errors.Is.
func TestDeadlines(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // It accepts, and says nothing.
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := registry.Dial(listener.Addr().String(), registry.WithTimeout(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := create(context.Background(), client, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("failed with %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := create(ended, client, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("failed with %v", err)
	}
}

// Pages yields every page, asks for none before it is needed, and ends with the error of one.
func TestPages(t *testing.T) {
	var tokens []string
	list := func(
		_ context.Context, request *registryv1.ListEntitiesRequest, _ ...grpc.CallOption,
	) (*registryv1.ListEntitiesResponse, error) {
		tokens = append(tokens, request.GetPageToken())
		if request.GetNamePrefix() != "b" {
			t.Error("a condition is lost")
		}
		if len(tokens) == 3 {
			return nil, errors.New("broken")
		}
		return &registryv1.ListEntitiesResponse{NextPageToken: fmt.Sprint(len(tokens))}, nil
	}
	request := &registryv1.ListEntitiesRequest{NamePrefix: "b"}
	var last error
	for _, err := range registry.Pages(t.Context(), list, request) {
		last = err
	}
	if strings.Join(tokens, ",") != ",1,2" || last == nil || request.GetPageToken() != "" {
		t.Errorf("asked for %q, ended with %v", tokens, last)
	}
	tokens = nil
	for range registry.Pages(t.Context(), list, request) {
		break
	}
	if len(tokens) != 1 {
		t.Errorf("asked for %q", tokens)
	}
}

// Walk joins the pages of a graph; a path leads over them.
func TestWalk(t *testing.T) {
	node := func(id string) *registryv1.Entity { return &registryv1.Entity{Id: id} }
	pages := []*registryv1.GraphResponse{
		{
			Nodes: []*registryv1.Entity{node("a"), node("b")}, Parents: []int32{-1, 0}, RootId: "a",
			NextPageToken: "more",
		},
		{
			Nodes: []*registryv1.Entity{node("c"), node("d")}, Parents: []int32{0, 1}, RootId: "a",
			FirstPosition: 2, Complete: true,
		},
	}
	ask := func(
		_ context.Context, request *registryv1.GetGraphRequest, _ ...grpc.CallOption,
	) (*registryv1.GraphResponse, error) {
		if request.GetPageToken() == "more" {
			return pages[1], nil
		}
		return pages[0], nil
	}
	names := func(path []*registryv1.Entity) (text string) {
		for _, one := range path {
			text += one.GetId()
		}
		return text
	}
	whole, err := registry.Walk(t.Context(), ask, &registryv1.GetGraphRequest{RootId: "a"})
	if err != nil || !whole.Complete || names(whole.Nodes) != "abcd" {
		t.Fatalf("%+v %v", whole, err)
	}
	if names(whole.PathTo("d")) != "abd" || whole.PathTo("x") != nil {
		t.Error("a wrong path")
	}
	cut, err := registry.Walk(t.Context(), ask, &registryv1.GetGraphRequest{RootId: "a", NodeLimit: 2})
	if err != nil || cut.Complete || names(cut.Nodes) != "ab" {
		t.Errorf("%+v %v", cut, err)
	}
	rest, err := registry.Walk(t.Context(), ask, &registryv1.GetGraphRequest{RootId: "a", PageToken: "more"})
	if err != nil || rest.PathTo("d") != nil {
		t.Errorf("%+v %v", rest, err)
	}
}

// What a newer server says is kept: unknown fields and enum values survive being read and written.
func TestNewerMessages(t *testing.T) {
	newer := []byte{
		0x0a, 0x01, 'a', // Field 1, id: "a".
		0x38, 0xe7, 0x07, // Field 7, status: 999.
		0xfa, 0x7f, 0x03, 'n', 'e', 'w', // Field 2047, of the future: "new".
	}
	if fields := (&registryv1.Entity{}).ProtoReflect().Descriptor().Fields(); fields.ByName("status").Number() != 7 {
		t.Fatalf("status is field %d", fields.ByName("status").Number())
	}
	entity := &registryv1.Entity{}
	if err := proto.Unmarshal(newer, entity); err != nil {
		t.Fatal(err)
	}
	if entity.GetStatus() != 999 {
		t.Errorf("the status is %v", entity.GetStatus())
	}
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(entity)
	if err != nil || string(again) != string(newer) {
		t.Errorf("%x became %x (%v)", newer, again, err)
	}
}

// A lease that was lost is granted anew with those of its entities that are there, and what the expiry
// marked is reported as it was; renewals go on over streams that break; its release ends it.
func TestKeptLease(t *testing.T) {
	server := &scripted{missing: 1}
	client := server.start(t)
	lost := make(chan string, 1)
	kept, err := client.KeepLease(
		t.Context(),
		&registryv1.Lease{
			Id: "l", Ttl: durationpb.New(30 * time.Millisecond), EntityIds: []string{"a", "b", "gone"},
		},
		registry.OnLost(func(_ context.Context, lease *registryv1.Lease) { lost <- lease.GetId() }),
	)
	if err != nil {
		t.Fatal(err)
	}
	degraded := registryv1.HealthStatus_HEALTH_STATUS_DEGRADED
	if err := kept.Report(t.Context(), degraded, "b"); err != nil {
		t.Fatal(err)
	}
	if id := <-lost; id != "l" {
		t.Errorf("told of %s", id)
	}
	for done := false; !done; time.Sleep(time.Millisecond) {
		server.mu.Lock()
		done = server.renewals >= 6
		server.mu.Unlock()
	}
	if err := kept.Release(t.Context()); err != nil {
		t.Errorf("the release of an expired lease: %v", err)
	}
	if len(server.grants) != 2 || !slices.Equal(server.grants[1].GetLease().GetEntityIds(), []string{"a", "b"}) {
		t.Errorf("granted %v", server.grants)
	}
	last := server.reports[len(server.reports)-1]
	if len(last) != 2 || last["b"] != degraded || last["a"] != registryv1.HealthStatus_HEALTH_STATUS_HEALTHY {
		t.Errorf("reported %v", server.reports)
	}
	if !slices.Equal(server.revoked, []string{"l"}) {
		t.Errorf("revoked %v", server.revoked)
	}
	renewals := server.renewals
	if kept.Remaining() > 30*time.Millisecond || renewals != server.renewals {
		t.Error("it is renewed after its release")
	}
}
