// Orders that are numbered 1, 2, 3 …, over a pool of node-postgres.
const { Pool } = require('pg')

const pool = new Pool({ connectionString: process.env.DATABASE_URL })

async function transaction(work) {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    const result = await work(client)
    await client.query('COMMIT')
    return result
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
}

async function insert(client) {
  const { rows } = await client.query('SELECT coalesce(max(number), 0) + 1 AS number FROM orders')
  await client.query('INSERT INTO orders (number) VALUES ($1)', [rows[0].number])
  return rows[0]
}

// Wrong: two requests can read the same maximum.
exports.createOrder = () => transaction(insert)

// Right: the second transaction waits until the first has committed.
exports.createOrderFixed = () =>
  transaction(async (client) => {
    await client.query('SELECT pg_advisory_xact_lock(42)')
    return insert(client)
  })

exports.close = () => pool.end()
