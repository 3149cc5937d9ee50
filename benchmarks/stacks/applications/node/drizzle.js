// Drizzle over node-postgres.
const { max, sql } = require('drizzle-orm')
const { drizzle } = require('drizzle-orm/node-postgres')
const { integer, pgTable } = require('drizzle-orm/pg-core')
const { Pool } = require('pg')
const { retry, run } = require('./shop')

const orders = pgTable('orders', { id: integer().primaryKey().generatedAlwaysAsIdentity(), number: integer().notNull() })
const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: Number(process.env.POOL || 10) })
pool.on('error', () => {})
const db = drizzle({ client: pool })

async function createOrder(db) {
  const [{ last }] = await db.select({ last: max(orders.number) }).from(orders)
  await db.insert(orders).values({ number: (last ?? 0) + 1 })
  return (last ?? 0) + 1
}

run(
  {
    transaction: () => db.transaction(createOrder),
    autocommit: () => createOrder(db),
    locked: () =>
      db.transaction(async (db) => {
        await db.execute(sql`SELECT pg_advisory_xact_lock(42)`)
        return createOrder(db)
      }),
    unique: () => retry((error) => (error.cause ?? error).code === '23505', () => db.transaction(createOrder)),
  },
  () => pool.end(),
)
