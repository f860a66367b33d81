package registry

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	registryv1 "nexuspro.io/registry/ose/registry/v1"
)

// Graph is a part of the graph, as it was at one revision.
type Graph struct {
	// Nodes has the entities, nearest first; the first is the root.
	Nodes []*registryv1.Entity
	// Edges has the relationships that were walked.
	Edges []*registryv1.Relationship
	// Distances says how many steps each node is away from the root.
	Distances []int32
	// RootID is the id of the entity that the walk started at.
	RootID string
	// Revision is what all of it is of.
	Revision int64
	// Complete is whether nothing was cut.
	Complete bool

	parents   []int32
	positions map[string]int
	first     int
}

// Limited is a question about the graph, which may set limits.
type Limited interface {
	Question
	GetNodeLimit() int32
	GetEdgeLimit() int32
	GetByteLimit() int32
}

// Walk asks a question about the graph and answers it whole, however many pages that takes:
//
//	needs := &registryv1.GetDependenciesRequest{Id: "shop"}
//	graph, err := registry.Walk(ctx, client.Graph.GetDependencies, needs)
//
// A question that sets a limit is answered with one page; see [Graph.Complete].
func Walk[Q Limited](
	ctx context.Context,
	method func(context.Context, Q, ...grpc.CallOption) (*registryv1.GraphResponse, error),
	question Q,
) (*Graph, error) {
	limits := max(question.GetNodeLimit(), question.GetEdgeLimit(), question.GetByteLimit())
	graph := &Graph{positions: map[string]int{}}
	for page, err := range Pages(ctx, method, proto.CloneOf(question)) {
		if err != nil {
			return nil, err
		}
		graph.add(page)
		if limits > 0 {
			break
		}
	}
	return graph, nil
}

// PathTo answers a shortest path from the root to a node, both included; nil if there is no node of this
// id, or if the path begins before the page that was asked for by its token.
func (g *Graph) PathTo(id string) []*registryv1.Entity {
	at, known := g.positions[id]
	if !known {
		return nil
	}
	var path []*registryv1.Entity
	for {
		path = append(path, g.Nodes[at])
		parent := g.parents[at]
		if parent < 0 {
			slices.Reverse(path)
			return path
		}
		if at = int(parent) - g.first; at < 0 {
			return nil
		}
	}
}

func (g *Graph) add(page *registryv1.GraphResponse) {
	if len(g.Nodes) == 0 {
		g.first = int(page.GetFirstPosition())
	}
	for i, node := range page.GetNodes() {
		g.positions[node.GetId()] = len(g.Nodes) + i
	}
	g.Nodes = append(g.Nodes, page.GetNodes()...)
	g.Edges = append(g.Edges, page.GetEdges()...)
	g.Distances = append(g.Distances, page.GetDistances()...)
	g.parents = append(g.parents, page.GetParents()...)
	g.RootID, g.Revision, g.Complete = page.GetRootId(), page.GetRevision(), page.GetComplete()
}
