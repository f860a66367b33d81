// Tour registers a service that lives as long as this program does, finds it, asks what would break
// without it, and watches what becomes of it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"nexuspro.io/registry"
	registryv1 "nexuspro.io/registry/ose/registry/v1"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := registry.Dial("") // $REGISTRY_SERVER, else localhost:50051
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := tour(ctx, client); err != nil {
		log.Fatal(err)
	}
}

func tour(ctx context.Context, client *registry.Client) error {
	// One revision: a service, another one that needs it, and the edge between them.
	written, err := client.Registry.Write(ctx, &registryv1.WriteRequest{Mutations: []*registryv1.Mutation{
		put(&registryv1.Entity{
			Id: "tour-ledger", Type: "service", Name: "tour-ledger", Version: "1.4.0",
			Health: registryv1.HealthStatus_HEALTH_STATUS_HEALTHY,
		}),
		put(&registryv1.Entity{Id: "tour-billing", Type: "service", Name: "tour-billing"}),
		{Operation: &registryv1.Mutation_PutRelationship{PutRelationship: &registryv1.Relationship{
			SourceId: "tour-billing", TargetId: "tour-ledger", Type: "depends_on",
		}}},
	}})
	if err != nil {
		return err
	}

	// The ledger is healthy as long as this program says so.
	lease, err := client.KeepLease(ctx, &registryv1.Lease{
		Ttl: durationpb.New(10 * time.Second), EntityIds: []string{"tour-ledger"}, Owner: "tour",
	})
	if err != nil {
		return err
	}
	fmt.Println("registered", lease.EntityIDs()[0], "with a lease")

	// Discovery: whatever is a healthy service.
	services := &registryv1.ListEntitiesRequest{Filter: `type = service AND health = healthy AND name : "tour"`}
	for page, err := range registry.Pages(ctx, client.Entities.ListEntities, services) {
		if err != nil {
			return err
		}
		for _, entity := range page.GetEntities() {
			fmt.Println("found", entity.GetId())
		}
	}

	// The graph: what breaks when the ledger does, and along which way.
	impact, err := registry.Walk(
		ctx, client.Graph.AnalyzeImpact, &registryv1.AnalyzeImpactRequest{Id: "tour-ledger"},
	)
	if err != nil {
		return err
	}
	for _, entity := range impact.Nodes[1:] {
		fmt.Println("without it breaks", entity.GetId(), "in", len(impact.PathTo(entity.GetId()))-1, "step")
	}

	// A refusal says why.
	_, err = client.Entities.DeleteEntity(ctx, &registryv1.DeleteEntityRequest{Id: "tour-ledger"})
	var failed *registry.Error
	if errors.As(err, &failed) && failed.Reason == registryv1.ErrorReason_ERROR_REASON_HAS_RELATIONSHIPS {
		fmt.Println("not deleted, for its", failed.Metadata["count"], "relationship")
	}

	// The watch: the lease ends, so the ledger becomes unhealthy.
	if err := lease.Release(ctx); err != nil {
		return err
	}
	changes := &registryv1.WatchRequest{
		Entities: &registryv1.EntityFilter{Ids: []string{"tour-ledger"}},
		Start:    &registryv1.WatchRequest_StartRevision{StartRevision: written.GetRevision() + 1},
	}
	for update, err := range client.Watch(ctx, changes) {
		if err != nil {
			return err
		}
		for _, event := range update.Events {
			fmt.Println("watched", event.GetEntity().GetId(), "become", event.GetEntity().GetHealth())
			return nil
		}
	}
	return nil
}

func put(entity *registryv1.Entity) *registryv1.Mutation {
	return &registryv1.Mutation{Operation: &registryv1.Mutation_PutEntity{PutEntity: entity}}
}
