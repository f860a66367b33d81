package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nexuspro.io/registry"
	registryv1 "nexuspro.io/registry/ose/registry/v1"
)

func changes(revisions ...int64) *registryv1.WatchResponse {
	last := revisions[len(revisions)-1]
	message := fragment(revisions...)
	message.More, message.Revision, message.ResumeToken = false, last, fmt.Sprint("t", last)
	return message
}

func fragment(revisions ...int64) *registryv1.WatchResponse {
	message := &registryv1.WatchResponse{More: true}
	for _, revision := range revisions {
		message.Events = append(message.Events, &registryv1.Event{Revision: revision})
	}
	return message
}

func mark(mark registryv1.WatchResponse_Mark, revision int64) *registryv1.WatchResponse {
	return &registryv1.WatchResponse{Mark: mark, Revision: revision, ResumeToken: fmt.Sprint("t", revision)}
}

func part(ids ...string) *registryv1.WatchResponse {
	message := &registryv1.WatchResponse{More: true}
	for _, id := range ids {
		message.Entities = append(message.Entities, &registryv1.Entity{Id: id})
	}
	return message
}

const (
	bookmark    = registryv1.WatchResponse_MARK_BOOKMARK
	snapshotEnd = registryv1.WatchResponse_MARK_SNAPSHOT_END
	reset       = registryv1.WatchResponse_MARK_RESET
)

// sends is a connection that sends messages and ends.
func sends(end error, messages ...*registryv1.WatchResponse) connection {
	return func(
		_ *registryv1.WatchRequest, stream grpc.ServerStreamingServer[registryv1.WatchResponse],
	) error {
		for _, message := range messages {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		return end
	}
}

// told is what updates say, in short.
func told(updates []registry.Update) string {
	var said []string
	for _, update := range updates {
		text := update.Kind.String()
		for _, event := range update.Events {
			text += fmt.Sprint(" ", event.GetRevision())
		}
		for _, entity := range update.Entities {
			text += " " + entity.GetId()
		}
		said = append(said, text)
	}
	return strings.Join(said, ", ")
}

func take(
	t *testing.T, client *registry.Client, request *registryv1.WatchRequest, count int,
) ([]registry.Update, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var updates []registry.Update
	for update, err := range client.Watch(ctx, request) {
		if err != nil {
			return updates, err
		}
		if updates = append(updates, update); len(updates) == count {
			break
		}
	}
	return updates, nil
}

func from(revision int64) *registryv1.WatchRequest {
	return &registryv1.WatchRequest{Start: &registryv1.WatchRequest_StartRevision{StartRevision: revision}}
}

func starts(server *scripted) (said []string) {
	for _, request := range server.watches {
		text := request.GetResumeToken()
		if request.GetStartRevision() > 0 {
			text = fmt.Sprint(request.GetStartRevision())
		}
		if request.GetSnapshot() {
			text += "snapshot"
		}
		said = append(said, text)
	}
	return said
}

var gone = status.Error(codes.Unavailable, "a restart")

// Over connections that end in every way, nothing comes twice, is missing or is halved.
func TestWatchGoesOn(t *testing.T) {
	server := &scripted{connections: []connection{
		sends(gone),
		sends(gone, changes(3, 4), mark(bookmark, 9), fragment(10), fragment(10)),
		sends(status.Error(codes.Internal, "RST_STREAM"), fragment(10, 10), fragment(10), changes(10)),
		sends(nil, changes(12)),
		sends(gone, changes(13)),
	}}
	updates, err := take(t, server.start(t), from(3), 5)
	if err != nil {
		t.Fatal(err)
	}
	want := "changes 3 4, bookmark, changes 10 10 10 10, changes 12, changes 13"
	if told(updates) != want {
		t.Errorf("it says %s", told(updates))
	}
	if want := []string{"3", "3", "t9", "t10", "t12"}; !slices.Equal(starts(server), want) {
		t.Errorf("it began at %q", starts(server))
	}
}

// Without a start it begins after the current revision, also when the first connection breaks at once.
func TestWatchAfterNow(t *testing.T) {
	server := &scripted{connections: []connection{sends(gone), sends(gone, changes(50))}}
	request := &registryv1.WatchRequest{}
	if _, err := take(t, server.start(t), request, 1); err != nil {
		t.Fatal(err)
	}
	if want := []string{"42", "42"}; !slices.Equal(starts(server), want) || request.GetStart() != nil {
		t.Errorf("it began at %q", starts(server))
	}
}

// A snapshot that breaks comes again, after Restarted; then the changes follow.
func TestWatchSnapshot(t *testing.T) {
	server := &scripted{connections: []connection{
		sends(gone),
		sends(gone, part("a")),
		sends(gone, part("a"), part("b"), mark(snapshotEnd, 7)),
		sends(gone, changes(8)),
	}}
	updates, err := take(t, server.start(t), &registryv1.WatchRequest{Snapshot: true}, 6)
	if err != nil {
		t.Fatal(err)
	}
	want := "snapshot a, restarted, snapshot a, snapshot b, snapshot end, changes 8"
	if told(updates) != want {
		t.Errorf("it says %s", told(updates))
	}
	if want := []string{"snapshot", "snapshot", "snapshot", "t7"}; !slices.Equal(starts(server), want) {
		t.Errorf("it began at %q", starts(server))
	}
}

// After a reset comes a snapshot; a break within it leads to a snapshot, not to the reset again.
func TestWatchReset(t *testing.T) {
	server := &scripted{connections: []connection{
		sends(gone, fragment(3), &registryv1.WatchResponse{Mark: reset, More: true}, part("a")),
		sends(gone, part("a"), mark(snapshotEnd, 7), changes(8)),
	}}
	updates, err := take(t, server.start(t), from(2), 6)
	if err != nil {
		t.Fatal(err)
	}
	if want := "reset, snapshot a, restarted, snapshot a, snapshot end, changes 8"; told(updates) != want {
		t.Errorf("it says %s", told(updates))
	}
	if want := []string{"2", "snapshot"}; !slices.Equal(starts(server), want) {
		t.Errorf("it began at %q", starts(server))
	}
}

// A refusal, an outage that lasts too long, and the end of the context end it, each with its error.
func TestWatchEnds(t *testing.T) {
	compacted := refusal(codes.OutOfRange, "REVISION_COMPACTED")
	server := &scripted{connections: []connection{sends(compacted)}}
	_, err := take(t, server.start(t), from(2), 1)
	var failed *registry.Error
	if !errors.As(err, &failed) || failed.ReasonText != "REVISION_COMPACTED" {
		t.Errorf("ended with %v", err)
	}
	broken := &scripted{connections: slices.Repeat([]connection{sends(gone)}, 1000)}
	for _, err := range broken.start(t).Watch(
		t.Context(), from(2), registry.GiveUpAfter(20*time.Millisecond),
	) {
		if status.Code(err) != codes.Unavailable {
			t.Errorf("ended with %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	count := 0
	quiet := &scripted{connections: []connection{func(
		_ *registryv1.WatchRequest, stream grpc.ServerStreamingServer[registryv1.WatchResponse],
	) error {
		cancel()
		<-stream.Context().Done()
		return nil
	}}}
	for _, err := range quiet.start(t).Watch(ctx, from(2)) {
		count++
		if !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	}
	if count != 1 {
		t.Errorf("it said %d things", count)
	}
}

// TestRestarts follows a real server, which whoever runs the test kills and starts again, until an
// entity of the name "last" comes, and prints what came.
func TestRestarts(t *testing.T) {
	target := os.Getenv("REGISTRY_RESTARTS")
	if target == "" {
		t.Skip("needs a server, in REGISTRY_RESTARTS: run tests/clients/test_languages.py")
	}
	client, err := registry.Dial(target)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for update, err := range client.Watch(t.Context(), from(2)) {
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range update.Events {
			fmt.Println("event", event.GetRevision(), event.GetEntity().GetId())
			if event.GetEntity().GetId() == "last" {
				return
			}
		}
	}
}

// A server that falls silent after it has spoken is taken for dead; the time that the loop's body takes
// does not count.
func TestSilentServer(t *testing.T) {
	rested := make(chan struct{})
	quiet := func(
		_ *registryv1.WatchRequest, stream grpc.ServerStreamingServer[registryv1.WatchResponse],
	) error {
		if err := stream.Send(changes(3)); err != nil {
			return err
		}
		<-rested
		if err := stream.Send(changes(4)); err != nil {
			return err
		}
		<-stream.Context().Done()
		return nil
	}
	server := &scripted{connections: []connection{quiet, sends(gone, changes(5))}}
	client := server.start(t)
	var updates []registry.Update
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for update, err := range client.Watch(ctx, from(2), registry.SilenceOf(200*time.Millisecond)) {
		if err != nil {
			t.Fatal(err)
		}
		updates = append(updates, update)
		if len(updates) == 1 {
			time.Sleep(300 * time.Millisecond)
			close(rested)
		} else if len(updates) == 3 {
			break
		}
	}
	if told(updates) != "changes 3, changes 4, changes 5" {
		t.Errorf("it says %s", told(updates))
	}
}
