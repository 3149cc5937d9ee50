# ruby-pg: one order for each run of the program; the argument selects the way.
require "pg"

NEXT = "SELECT coalesce(max(number), 0) + 1 AS next FROM orders"

def insert(connection)
  number = connection.exec(NEXT)[0]["next"]
  connection.exec_params("INSERT INTO orders (number) VALUES ($1)", [number])
end

connection = PG.connect(ENV["DATABASE_URL"])
case ARGV[0]
when "autocommit" then insert(connection)
when "locked"
  connection.transaction do
    connection.exec("SELECT pg_advisory_xact_lock(42)")
    insert(connection)
  end
when "unique"
  begin
    connection.transaction { insert(connection) }
  rescue PG::UniqueViolation
    retry
  end
else connection.transaction { insert(connection) }
end
connection.close
