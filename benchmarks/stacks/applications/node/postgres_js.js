// postgres.js, which pipelines the queries of different requests over one connection. POOL is its size.
const postgres = require('postgres')
const { retry, run } = require('./shop')

const sql = postgres(process.env.DATABASE_URL, { max: Number(process.env.POOL || 10) })

async function createOrder(sql) {
  const [{ next }] = await sql`SELECT coalesce(max(number), 0) + 1 AS next FROM orders`
  await sql`INSERT INTO orders (number) VALUES (${next})`
  return next
}

run(
  {
    transaction: () => sql.begin(createOrder),
    autocommit: () => createOrder(sql),
    locked: () =>
      sql.begin(async (sql) => {
        await sql`SELECT pg_advisory_xact_lock(42)`
        return createOrder(sql)
      }),
    unique: () => retry((error) => error.code === '23505', () => sql.begin(createOrder)),
  },
  () => sql.end(),
)
