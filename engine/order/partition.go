package order

// Partition numbers one slice of the stock: a Redis hash tag, a queue, an engine goroutine, a home shard.
type Partition uint32

// Partitions says how many partitions each kind has. One number space: normal first, then flash. Fixed for a
// deployment.
type Partitions struct {
	Normal int `json:"normal" yaml:"normal" koanf:"normal"`
	Flash  int `json:"flash" yaml:"flash" koanf:"flash"`
}

// PartitionsMax bounds each kind's number of partitions.
const PartitionsMax = 1024

// Count is the number of partitions of both kinds.
func (ps Partitions) Count() int { return ps.Normal + ps.Flash }

// Of is the partition of a group.
func (ps Partitions) Of(kind Kind, group string) Partition {
	h := HashString(group)
	if kind == Flash {
		return Partition(ps.Normal) + Partition(h%uint64(ps.Flash))
	}
	return Partition(h % uint64(ps.Normal))
}

// Kind is the kind of partition p.
func (ps Partitions) Kind(p Partition) Kind {
	if int(p) < ps.Normal {
		return Normal
	}
	return Flash
}

// Each lists the partitions of one kind in ascending order.
func (ps Partitions) Each(kind Kind) []Partition {
	from, to := 0, ps.Normal
	if kind == Flash {
		from, to = ps.Normal, ps.Count()
	}
	list := make([]Partition, 0, to-from)
	for p := from; p < to; p++ {
		list = append(list, Partition(p))
	}
	return list
}

// VirtualShards is the number of slices of users; the shard bits of every order id name one.
const VirtualShards = 256

// VirtualShard is the slice that a user belongs to: the low 8 bits of SplitMix64 of the id.
func VirtualShard(u UserID) uint8 { return uint8(SplitMix64(uint64(u))) }
