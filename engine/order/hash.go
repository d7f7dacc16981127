package order

import (
	"encoding/binary"
	"math/bits"
)

// SplitMix64 is the finaliser of Sebastiano Vigna's generator (https://prng.di.unimi.it/splitmix64.c): a bijection on
// 64 bits that spreads neighbouring numbers.
func SplitMix64(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

const (
	hashSeed = 0xa0761d6478bd642f
	hashMul  = 0xe7037ed1a0b428db
)

// Hash continues a 64-bit hash over b: eight bytes at a time, each step a 128-bit multiplication folded to 64 bits, the
// construction of wyhash. The values are part of stored data (partitions, key hashes, fingerprints) and never change; a
// golden test holds them. It is no defence against chosen collisions.
func Hash(h uint64, b []byte) uint64 {
	h ^= hashSeed ^ uint64(len(b))
	for len(b) >= 8 {
		h = fold(h^binary.LittleEndian.Uint64(b), hashMul)
		b = b[8:]
	}
	if len(b) > 0 {
		var tail uint64
		for i, c := range b {
			tail |= uint64(c) << (8 * i)
		}
		h = fold(h^tail, hashMul)
	}
	return SplitMix64(h)
}

// HashString is Hash from zero over a short string.
func HashString(s string) uint64 { return Hash(0, []byte(s)) }

// KeyHash is the hash of an idempotency key in its group. With a user id it names one key of one scope.
func KeyHash(group, key string) uint64 { return Hash(HashString(group), []byte(key)) }

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
