package tables

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"
)

// places are two databases of a MySQL server that are dropped when the test ends.
func places(t *testing.T) (list [2]string) {
	t.Helper()
	place := os.Getenv("SLUICE_TEST_MYSQL")
	if place == "" && os.Getenv("SLUICE_CI") == "1" {
		t.Fatal("SLUICE_TEST_MYSQL is not set, and in CI nothing is skipped")
	}
	if place == "" {
		t.Skip("SLUICE_TEST_MYSQL is not set")
	}
	dsn, err := mysql.ParseDSN(place)
	if err != nil {
		t.Fatal("SLUICE_TEST_MYSQL is no data source name")
	}
	db, err := sql.Open("mysql", place)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	for i := range list {
		name := "sluice_test_" + strings.ToLower(rand.Text())
		dsn.DBName = name
		list[i] = dsn.FormatDSN()
		if _, err := db.Exec("CREATE DATABASE " + name); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if _, err := db.Exec("DROP DATABASE " + name); err != nil {
				t.Error(err)
			}
		})
	}
	return list
}

func execAll(t *testing.T, dialect, place string, statements ...string) {
	t.Helper()
	db, err := sql.Open(dialect, place)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range statements {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
}

const table = "CREATE TABLE orders (order_id BIGINT NOT NULL PRIMARY KEY, shop_id BIGINT NOT NULL, name VARCHAR(20) NOT NULL, details BLOB, unpaid BIGINT, UNIQUE (name))"

// manyRows is an insert of so many orders, all of one shop.
func manyRows(n int) string {
	var rows []string
	for i := range n {
		rows = append(rows, fmt.Sprintf("(%d,7,'n%d',%s,NULL)", i+1, i, []string{"X'00ff27'", "NULL"}[i%2]))
	}
	return "INSERT INTO orders VALUES " + strings.Join(rows, ",")
}

// The bare loop leaves the very rows that it has read, whatever their number makes of its statements and transactions.
func TestInsert(t *testing.T) {
	at := places(t)
	execAll(t, "mysql", at[0], table, manyRows(257))
	from, to := &Shard{Dialect: "mysql", Place: at[0]}, &Shard{Dialect: "mysql", Place: at[1]}
	o, err := from.Orders(t.Context())
	if err != nil || o.Len() != 257 {
		t.Fatal(o, err)
	}
	if diff := cmp.Diff([]string{"shop_id", "unpaid"}, o.fixed); diff != "" {
		t.Error(diff)
	}
	if err := o.Prepare(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if err := o.Insert(t.Context(), to, Loop{Connections: 3, Statement: 10, Transaction: 35}); err != nil {
		t.Fatal(err)
	}
	if n, err := Count(t.Context(), to); n != 257 || err != nil {
		t.Errorf("%d rows, %v", n, err)
	}
	again, err := to.Orders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(o.rows, again.rows); diff != "" || !slices.Equal(o.text, again.text) {
		t.Errorf("other rows: %s, %v", diff, again.text)
	}
	// It is the same table, with its indexes: a row that was there is refused.
	if err := o.Insert(t.Context(), to, Loop{Connections: 1, Statement: 10, Transaction: 10}); err == nil {
		t.Error("the same rows were inserted twice")
	}
}

func TestSizes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "shard.db")
	execAll(t, "sqlite", file, table, "CREATE TABLE other (n INT)", manyRows(2000))
	list, err := (&Shard{Dialect: "sqlite", Place: file}).Sizes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := func() (names []string) {
		for _, t := range list {
			names = append(names, t.Name)
		}
		return names
	}
	check := func() {
		t.Helper()
		if diff := cmp.Diff([]string{"orders", "other"}, names()); diff != "" {
			t.Fatal(diff)
		}
		if o := list[0]; o.Rows != 2000 || o.Data < 2000*20 || o.Indexes < 2000*5 || list[1].Rows != 0 || list[1].Data >= o.Data {
			t.Errorf("%+v", list)
		}
	}
	check()
	if info, err := os.Stat(file); err != nil || list[0].Data+list[0].Indexes > info.Size() {
		t.Errorf("%+v of %v, %v", list, info.Size(), err)
	}
	at := places(t)
	execAll(t, "mysql", at[0], table, "CREATE TABLE other (n INT)", manyRows(2000))
	if list, err = (&Shard{Dialect: "mysql", Place: at[0]}).Sizes(t.Context()); err != nil {
		t.Fatal(err)
	}
	check()
}

func TestStatement(t *testing.T) {
	o := divide(nil, []string{"id", "kind", "note"}, [][]any{{int64(1), []byte("flash"), nil}, {int64(2), []byte("flash"), nil}})
	if got, want := o.statement(2), "INSERT INTO orders (id,kind,note) VALUES (?,X'666c617368',NULL),(?,X'666c617368',NULL)"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	o = divide(nil, []string{"id", "note"}, [][]any{{int64(1), []byte("a")}, {int64(2), nil}})
	if got, want := o.statement(1), "INSERT INTO orders (id,note) VALUES (?,?)"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
